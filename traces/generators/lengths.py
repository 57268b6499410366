"""Distributions of prompt and output lengths, by their quantile functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from traces.shared.value_checks import integer, number, quantile_levels

Floats = NDArray[np.float64]
_LONGEST = 10**7


class Lengths(Protocol):
    """A distribution of lengths, in tokens, as real numbers."""

    def quantile(self, levels: Floats) -> Floats:
        """Return the lengths at levels between 0 and 1: float64[n] -> float64[n]."""
        ...

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these: float64[n] -> float64[n]."""
        ...


@dataclass(frozen=True)
class Table:
    """Quantiles from the smallest to the largest length, straight lines between them.

    Attributes:
        values: Quantiles at the levels; not decreasing.
        levels: Rising, from 0 to 1; None: at equal steps, 0, 1/(n-1), ..., 1.
    """

    values: Sequence[float]
    levels: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.values) < 2 or np.any(np.diff(self.values) < 0) or self.values[0] < 1:
            raise ValueError("values must be at least 2 lengths of at least 1, not decreasing")
        quantile_levels(self.levels, len(self.values))

    @property
    def _levels(self) -> Floats:
        return np.linspace(0, 1, len(self.values)) if self.levels is None else np.array(self.levels, dtype=np.float64)

    def quantile(self, levels: Floats) -> Floats:
        """Return the lengths at these levels."""
        return np.interp(levels, self._levels, self.values)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these."""
        return np.interp(lengths, self.values, self._levels)


def _require_lengths(low: int, high: int) -> None:
    for name, value in (("low", low), ("high", high)):
        integer(name, value, 1, _LONGEST)
    if low > high:
        raise ValueError(f"low must be at most high, got {low!r} and {high!r}")


@dataclass(frozen=True)
class Uniform:
    """Each length of a range as often as any other.

    Attributes:
        low: Shortest, tokens.
        high: Longest, tokens; may be the same.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_lengths(self.low, self.high)

    def quantile(self, levels: Floats) -> Floats:
        """Return the lengths at these levels."""
        return np.asarray(np.minimum(self.low + np.floor(levels * (self.high - self.low + 1)), self.high))

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these."""
        return np.asarray(np.clip((np.floor(lengths) - self.low + 1) / (self.high - self.low + 1), 0, 1))


@dataclass(frozen=True)
class Zipf:
    """Lengths of a range whose frequency falls with a power of the length.

    Attributes:
        exponent: Each length k is as frequent as k**-exponent; 0: all the same.
        low: Shortest, tokens.
        high: Longest, tokens.
    """

    exponent: float
    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        number("exponent", self.exponent, 0, 10)
        _require_lengths(self.low, self.high)

    @cached_property
    def _cumulated(self) -> Floats:
        weights = np.arange(self.low, self.high + 1, dtype=np.float64) ** -self.exponent
        return np.asarray(np.cumsum(weights) / weights.sum())

    def quantile(self, levels: Floats) -> Floats:
        """Return the lengths at these levels."""
        rank = np.searchsorted(self._cumulated, levels, side="left")
        return np.asarray(self.low + np.minimum(rank, self.high - self.low), dtype=np.float64)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these."""
        rank = np.clip(np.floor(lengths) - self.low + 1, 0, self.high - self.low + 1).astype(np.int64)
        return np.asarray(np.concatenate([[0.0], self._cumulated])[rank])


@dataclass(frozen=True)
class Geometric:
    """Whole numbers from 1 on, each next one less frequent by the same factor; for numbers of turns.

    Attributes:
        mean: Their mean, above 1.
    """

    mean: float

    def __post_init__(self) -> None:
        """Check the range."""
        if not isinstance(self.mean, int | float) or isinstance(self.mean, bool) or not 1 < self.mean <= _LONGEST:
            raise ValueError(f"mean must be a number above 1 and up to {_LONGEST}, got {self.mean!r}")

    def quantile(self, levels: Floats) -> Floats:
        """Return the numbers at these levels."""
        return np.maximum(np.ceil(np.log1p(-levels) / math.log1p(-1 / self.mean)), 1.0)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of numbers up to each of these."""
        return -np.expm1(np.floor(lengths) * math.log1p(-1 / self.mean))


@dataclass(frozen=True)
class LogNormal:
    """Lengths whose logarithm is normally distributed.

    Attributes:
        median: Median length, tokens.
        sigma: Standard deviation of the logarithm.
    """

    median: float
    sigma: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (0 < self.median < math.inf and 0 < self.sigma < math.inf):
            raise ValueError(f"median and sigma must be above 0, got {self.median!r} and {self.sigma!r}")

    def quantile(self, levels: Floats) -> Floats:
        """Return the lengths at these levels."""
        return np.asarray(self.median * np.exp(self.sigma * ndtri(levels)))

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these."""
        return np.asarray(ndtr(np.log(lengths / self.median) / self.sigma))


@dataclass(frozen=True)
class SplitNormal:
    """Two halves of normal distributions that meet at the median.

    Attributes:
        median: Median length, tokens.
        lower_sigma: Standard deviation of the half below it, tokens.
        upper_sigma: Standard deviation of the half above it, tokens.
    """

    median: float
    lower_sigma: float
    upper_sigma: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (self.median > 0 and self.lower_sigma > 0 and self.upper_sigma > 0):
            raise ValueError("median, lower_sigma and upper_sigma must be above 0")

    def quantile(self, levels: Floats) -> Floats:
        """Return the lengths at these levels."""
        z = ndtri(levels)
        return np.asarray(self.median + np.where(z < 0, self.lower_sigma, self.upper_sigma) * z)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these."""
        distance = lengths - self.median
        return np.asarray(ndtr(distance / np.where(distance < 0, self.lower_sigma, self.upper_sigma)))
