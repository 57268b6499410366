"""Distributions of prompt and output lengths, as quantile functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from traces.shared.value_checks import each, integer, number, quantile_levels, sequence

Floats = NDArray[np.float64]
_LONGEST = 10**7


class Lengths(Protocol):
    """A distribution of lengths in tokens, before rounding."""

    def quantile(self, levels: Floats) -> Floats:
        """Return the quantiles at levels between 0 and 1: float64[n] -> float64[n]."""
        ...

    def level(self, lengths: Floats) -> Floats:
        """Return the cumulative distribution function at lengths: float64[n] -> float64[n]."""
        ...


@dataclass(frozen=True)
class Table:
    """A distribution given by quantiles, with linear interpolation between them.

    Attributes:
        values: Quantiles from the smallest to the largest length, tokens; not decreasing.
        levels: Levels of these quantiles, increasing from 0 to 1; None: equally spaced, 0, 1/(n-1), ..., 1.
    """

    values: Sequence[float]
    levels: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        sequence("values", self.values, "a list of at least 2 lengths", number, 1, _LONGEST, least=2)
        if np.any(np.diff(self.values) < 0):
            raise ValueError(f"values must not decrease, got {list(self.values)}")
        quantile_levels(self.levels, len(self.values))

    @property
    def _levels(self) -> Floats:
        return np.linspace(0, 1, len(self.values)) if self.levels is None else np.array(self.levels, dtype=np.float64)

    def quantile(self, levels: Floats) -> Floats:
        """Return the quantiles at these levels."""
        return np.interp(levels, self._levels, self.values)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these lengths."""
        return np.interp(lengths, self.values, self._levels)


def _require_lengths(low: int, high: int) -> None:
    for name, value in (("low", low), ("high", high)):
        integer(name, value, 1, _LONGEST)
    if low > high:
        raise ValueError(f"low must be at most high, got {low!r} and {high!r}")


@dataclass(frozen=True)
class Uniform:
    """Integer lengths of a range, all equally likely.

    Attributes:
        low: Shortest length, tokens.
        high: Longest length, tokens; may equal `low`.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_lengths(self.low, self.high)

    def quantile(self, levels: Floats) -> Floats:
        """Return the quantiles at these levels."""
        return np.asarray(np.minimum(self.low + np.floor(levels * (self.high - self.low + 1)), self.high))

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these lengths."""
        return np.asarray(np.clip((np.floor(lengths) - self.low + 1) / (self.high - self.low + 1), 0, 1))


@dataclass(frozen=True)
class Zipf:
    """A Zipf distribution over the integer lengths of a range.

    Attributes:
        exponent: The probability of length k is proportional to k**-exponent; 0: uniform.
        low: Shortest length, tokens.
        high: Longest length, tokens.
    """

    exponent: float
    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        number("exponent", self.exponent, 0, 10)
        _require_lengths(self.low, self.high)

    @cached_property
    def _cumulative(self) -> Floats:
        weights = np.arange(self.low, self.high + 1, dtype=np.float64) ** -self.exponent
        return np.asarray(np.cumsum(weights) / weights.sum())

    def quantile(self, levels: Floats) -> Floats:
        """Return the quantiles at these levels."""
        rank = np.searchsorted(self._cumulative, levels, side="left")
        return np.asarray(self.low + np.minimum(rank, self.high - self.low), dtype=np.float64)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these lengths."""
        rank = np.clip(np.floor(lengths) - self.low + 1, 0, self.high - self.low + 1).astype(np.int64)
        return np.asarray(np.concatenate([[0.0], self._cumulative])[rank])


@dataclass(frozen=True)
class Geometric:
    """A geometric distribution of integers from 1, such as numbers of turns.

    Attributes:
        mean: Mean of the distribution, above 1.
    """

    mean: float

    def __post_init__(self) -> None:
        """Check the range."""
        number("mean", self.mean, 1, _LONGEST, excluding="low")

    def quantile(self, levels: Floats) -> Floats:
        """Return the quantiles at these levels."""
        return np.maximum(np.ceil(np.log1p(-levels) / math.log1p(-1 / self.mean)), 1.0)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of numbers up to each of these numbers."""
        return -np.expm1(np.floor(lengths) * math.log1p(-1 / self.mean))


@dataclass(frozen=True)
class LogNormal:
    """A log-normal distribution of lengths.

    Attributes:
        median: Median length, tokens.
        sigma: Standard deviation of the logarithm.
    """

    median: float
    sigma: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        each(number, self, ("median", "sigma"), 0, excluding="low")

    def quantile(self, levels: Floats) -> Floats:
        """Return the quantiles at these levels."""
        return np.asarray(self.median * np.exp(self.sigma * ndtri(levels)))

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these lengths."""
        return np.asarray(ndtr(np.log(lengths / self.median) / self.sigma))


@dataclass(frozen=True)
class SplitNormal:
    """A split normal distribution: two half-normals that meet at the median.

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
        each(number, self, ("median", "lower_sigma", "upper_sigma"), 0, excluding="low")

    def quantile(self, levels: Floats) -> Floats:
        """Return the quantiles at these levels."""
        z = ndtri(levels)
        return np.asarray(self.median + np.where(z < 0, self.lower_sigma, self.upper_sigma) * z)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these lengths."""
        distance = lengths - self.median
        return np.asarray(ndtr(distance / np.where(distance < 0, self.lower_sigma, self.upper_sigma)))
