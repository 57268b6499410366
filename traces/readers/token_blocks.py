"""Prefix blocks of prompts whose tokens are known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from traces.readers.rows import Bools

Ints = NDArray[np.int64]


class TokenBlocks:
    """Numbers of full blocks.

    Equal numbers mean equal tokens up to the end of the block.
    """

    def __init__(self, block_tokens: int) -> None:
        """Start without blocks.

        Args:
            block_tokens: Tokens per block.
        """
        self._block_tokens = block_tokens
        self._numbers: dict[tuple[int, bytes], int] = {}  # by the number of the block before and the tokens

    def number(self, parts: Sequence[Sequence[Ints]], is_used: Bools) -> tuple[Ints, Ints]:
        """Number the blocks of rows.

        Args:
            parts: Tokens of each row's prompt, and if they are known of each row's output.
            is_used: bool[num_rows], False for rows without blocks; those without a prompt have none either.

        Returns:
            int64[num_blocks] block numbers, row after row, and int64[num_rows] blocks of each row.
        """
        rows = [
            self._blocks(np.concatenate(tokens)) if used and len(tokens[0]) else []
            for *tokens, used in zip(*parts, is_used.tolist(), strict=True)
        ]
        numbers = np.array([number for row in rows for number in row], dtype=np.int64)
        return numbers, np.array(list(map(len, rows)), dtype=np.int64)

    def _blocks(self, tokens: Ints) -> list[int]:
        numbers, before, size = [], -1, self._block_tokens
        for start in range(0, len(tokens) - size + 1, size):
            key = before, tokens[start : start + size].tobytes()
            before = self._numbers.setdefault(key, len(self._numbers))
            numbers.append(before)
        return numbers
