"""Rows of integers, appended one by one."""

from array import array

import numpy as np
from numpy.typing import NDArray

_FIRST_ROWS = 64
_WIDEST = 5


class IntRows:
    """Rows of up to five integers, kept in 8 bytes each.

    Attributes:
        num_rows: Number of rows.
    """

    def __init__(self, width: int) -> None:
        """Start without rows.

        Args:
            width: Integers of each row.
        """
        self.num_rows = 0
        self._width = width
        self._values = array("q", [0]) * (_FIRST_ROWS * width + _WIDEST)

    def __len__(self) -> int:
        return self.num_rows

    def add(self, first: int, second: int, third: int = 0, fourth: int = 0, fifth: int = 0) -> None:
        """Append a row; what is beyond the width is dropped."""
        start = self.num_rows * self._width
        if start + _WIDEST > len(self._values):
            self._grow()
        values = self._values
        values[start] = first
        values[start + 1] = second
        values[start + 2] = third
        values[start + 3] = fourth
        values[start + 4] = fifth
        self.num_rows += 1

    def rows(self) -> NDArray[np.int64]:
        """Return a copy of all rows: int64[num_rows, width]."""
        return np.asarray(self._values)[: self.num_rows * self._width].reshape(-1, self._width).copy()

    def replace(self, rows: NDArray[np.int64]) -> None:
        """Replace all rows: int64[n, width]."""
        self.num_rows = len(rows)
        self._values = array("q", rows.astype(np.int64).tobytes()) + array("q", [0]) * _WIDEST

    def _grow(self) -> None:
        longer = array("q", [0]) * (2 * len(self._values))
        memoryview(longer)[: len(self._values)] = memoryview(self._values)
        self._values = longer
