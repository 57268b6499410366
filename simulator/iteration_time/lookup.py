"""Memoized functions of a number of tokens or sequences."""

from array import array
from collections.abc import Callable
from math import nan

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256  # values that are computed at once


class Lookup:
    """Memoized function of a positive integer, computed `_BLOCK` values at a time."""

    def __init__(self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
        """Start without values.

        Args:
            function: float64[n] -> float64[n].
        """
        self._function = function
        self._values = array("d")  # NaN: not computed yet

    def at(self, number: int) -> float:
        """Return the value at a number, which is at least 1."""
        if number >= len(self._values) or self._values[number] != self._values[number]:
            self._compute(number)
        return self._values[number]

    def _compute(self, number: int) -> None:
        """Compute the block of values around a number."""
        first = (number - 1) // _BLOCK * _BLOCK + 1
        values = np.full(max(len(self._values), first + _BLOCK), nan)
        values[: len(self._values)] = self._values
        values[first : first + _BLOCK] = self._function(np.arange(first, first + _BLOCK, dtype=np.float64))
        self._values = array("d", values.tobytes())
