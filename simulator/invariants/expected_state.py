"""What each request has, one number for each, and the error if that is not so."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class InvariantError(RuntimeError):
    """What the simulator or a policy did cannot be: nothing of the run is to be trusted. One line says what."""


def broken(*what: object) -> InvariantError:
    """Return the error that says what does not hold."""
    return InvariantError(f"invariant broken: {' '.join(map(str, what))}")


class ExpectedState:
    """What each request has, wherever it is.

    Attributes:
        prompt: int64[num_requests], tokens of its prompt.
        last: int64[num_requests], tokens in the KV cache when it has emitted its last token, which never gets there.
        context: int64[num_requests], tokens in the KV cache, those that are being computed not counted.
        prefill: int64[num_requests], tokens that it has to compute before it decodes: the prompt, and after a
            preemption or a failure what it had emitted.
        blocks: int64[num_requests], KV blocks that it got for its prefill.
    """

    def __init__(self, prompt: Sequence[int], total: Sequence[int]) -> None:
        """Open the books before anything has happened.

        Args:
            prompt: Tokens of the prompt of each request.
            total: Tokens of prompt and output of each.
        """
        self.prompt = np.array(prompt, dtype=np.int64)
        self.last = np.array(total, dtype=np.int64) - 1
        self.context, self.blocks = np.zeros_like(self.prompt), np.zeros_like(self.prompt)
        self.prefill = self.prompt.copy()
