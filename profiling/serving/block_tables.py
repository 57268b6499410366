"""Block tables: the KV blocks of each request.

The replica counts blocks; the engine needs their numbers.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.int32]


class BlockTables:
    """KV blocks by request, as arrays.

    Host work per iteration does not grow with the context.
    """

    def __init__(self, num_blocks: int, block_size: int, max_model_len: int) -> None:
        """Start with all blocks free.

        Args:
            num_blocks: Total KV blocks, numbered from 0.
            block_size: Tokens per KV block.
            max_model_len: Maximum length of a sequence, tokens.
        """
        self._block_size = block_size
        self._max_blocks = -(-max_model_len // block_size) + 1
        self._free = list(range(num_blocks - 1, -1, -1))
        self._rows: dict[int, Blocks] = {}
        self._num_owned: dict[int, int] = {}

    def extend(self, request: int, num_tokens: int) -> Blocks:
        """Allocate blocks for the first `num_tokens` tokens of a request.

        Returns:
            All blocks of these tokens, int32[num_needed].

        Raises:
            RuntimeError: Too few blocks are free: the replica has counted fewer than the request needs.
        """
        num_owned = self._num_owned.get(request, 0)
        needed = -(-num_tokens // self._block_size)
        if needed > num_owned:
            self._allocate(request, num_owned, needed)
        return self._rows[request][:needed]

    def _allocate(self, request: int, num_owned: int, needed: int) -> None:
        if needed - num_owned > len(self._free):
            raise RuntimeError(
                f"request {request} needs {needed - num_owned} more KV blocks, {len(self._free)} are free"
            )
        if not num_owned:
            self._rows[request] = np.zeros(self._max_blocks, dtype=np.int32)
        row = self._rows[request]
        for index in range(num_owned, needed):
            row[index] = self._free.pop()
        self._num_owned[request] = needed

    def release(self, requests: Iterable[int]) -> None:
        """Free the blocks of finished or preempted requests."""
        for request in requests:
            num_owned = self._num_owned.pop(request, 0)
            if num_owned:
                self._free += self._rows.pop(request)[:num_owned].tolist()

    @property
    def num_free(self) -> int:
        """Number of free blocks."""
        return len(self._free)
