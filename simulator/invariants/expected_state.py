"""The expected state of every request."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class ExpectedState:
    """Tokens and KV blocks that every request should have, whatever its replica.

    Attributes:
        known_tokens: int64[num_requests], tokens of the prompt and those emitted so far.
        final_tokens: int64[num_requests], tokens of prompt and output.
        context_tokens: int64[num_requests], tokens computed or being computed.
        num_blocks: int64[num_requests], KV blocks of the request, shared ones included.
    """

    def __init__(self, prompt_tokens: Sequence[int], total_tokens: Sequence[int]) -> None:
        """Start with nothing computed.

        Args:
            prompt_tokens: Prompt tokens of each request.
            total_tokens: Prompt and output tokens of each request.
        """
        self.known_tokens = np.array(prompt_tokens, dtype=np.int64)
        self.final_tokens = np.array(total_tokens, dtype=np.int64)
        self.context_tokens = np.zeros_like(self.known_tokens)
        self.num_blocks = np.zeros_like(self.known_tokens)
