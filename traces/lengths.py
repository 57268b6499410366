"""Distributions of prompt and output lengths, by their quantile functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]


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
    """Quantiles at equal steps from the smallest to the largest, straight lines between them.

    Attributes:
        values: Quantiles at the levels 0, 1/(n-1), ..., 1; not decreasing.
    """

    values: Sequence[float]

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.values) < 2 or np.any(np.diff(self.values) < 0) or self.values[0] < 1:
            raise ValueError("values must be at least 2 lengths of at least 1, not decreasing")

    def quantile(self, levels: Floats) -> Floats:
        """Return the lengths at these levels."""
        return np.interp(levels, np.linspace(0, 1, len(self.values)), self.values)

    def level(self, lengths: Floats) -> Floats:
        """Return the share of lengths up to each of these."""
        return np.interp(lengths, self.values, np.linspace(0, 1, len(self.values)))


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
