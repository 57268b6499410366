"""The expected state of every request."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class ExpectedState:
    """Tokens and KV blocks that every request should have, whatever its replica.

    Attributes:
        prompt_tokens: int64[num_requests], tokens of the prompt.
        final_context_tokens: int64[num_requests], tokens in the KV cache when the request emits its last token, which
            is never cached.
        context_tokens: int64[num_requests], tokens in the KV cache, without those of batches in flight.
        known_tokens: int64[num_requests], tokens to compute before the request decodes: the prompt and, after a
            preemption or a failure, the tokens that it had emitted.
        num_blocks: int64[num_requests], KV blocks allocated for the prefill.
    """

    def __init__(self, prompt_tokens: Sequence[int], total_tokens: Sequence[int]) -> None:
        """Start with nothing computed.

        Args:
            prompt_tokens: Prompt tokens of each request.
            total_tokens: Prompt and output tokens of each request.
        """
        self.prompt_tokens = np.array(prompt_tokens, dtype=np.int64)
        self.final_context_tokens = np.array(total_tokens, dtype=np.int64) - 1
        self.context_tokens = np.zeros_like(self.prompt_tokens)
        self.num_blocks = np.zeros_like(self.prompt_tokens)
        self.known_tokens = self.prompt_tokens.copy()
