"""Which KV blocks each sequence holds. The replica counts blocks; here they have numbers."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.int32]


class BlockTables:
    """KV blocks by request, as arrays: what the host does with them does not grow with the context."""

    def __init__(self, num_blocks: int, block_size: int, max_model_len: int) -> None:
        """Start with all blocks free.

        Args:
            num_blocks: KV blocks in all, numbered from 0.
            block_size: Tokens per KV block.
            max_model_len: Longest sequence, tokens.
        """
        self._block_size = block_size
        self._most = -(-max_model_len // block_size) + 1
        self._free = list(range(num_blocks - 1, -1, -1))
        self._rows: dict[int, Blocks] = {}
        self._num_held: dict[int, int] = {}

    def extend(self, request: int, num_tokens: int) -> Blocks:
        """Give a request enough blocks for so many tokens, and return all that it holds: int32[num_held].

        Raises:
            RuntimeError: There are too few: the replica has counted fewer blocks than are needed.
        """
        held = self._num_held.get(request, 0)
        needed = -(-num_tokens // self._block_size)
        if needed > held:
            self._take(request, held, needed)
        return self._rows[request][:needed]

    def _take(self, request: int, held: int, needed: int) -> None:
        if needed - held > len(self._free):
            raise RuntimeError(f"request {request} needs {needed - held} KV blocks more, {len(self._free)} are free")
        if not held:
            self._rows[request] = np.zeros(self._most, dtype=np.int32)
        row = self._rows[request]
        for place in range(held, needed):
            row[place] = self._free.pop()
        self._num_held[request] = needed

    def release(self, requests: Iterable[int]) -> None:
        """Take the blocks of requests that ended or were preempted."""
        for request in requests:
            held = self._num_held.pop(request, 0)
            if held:
                self._free += self._rows.pop(request)[:held].tolist()

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)
