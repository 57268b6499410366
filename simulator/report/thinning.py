"""Curves with fewer points that look the same."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.results import Distribution, Steps

Floats = NDArray[np.float64]
# Of the iterations of a replica: starts, ends in increasing order, and a value of each; float64[n].
IterationValues = tuple[Floats, Floats, Floats]
# Points of all curves of a chart together: more than a screen has pixels across.
MAX_STEPS = 6000
# Shares at which CDFs are drawn: every half per cent, and finer towards the tail.
SHARES = np.unique(
    np.round(np.concatenate([np.linspace(0, 0.9, 181), np.linspace(0.9, 0.99, 91), np.linspace(0.99, 1, 101)]), 4)
)


def quantiles(distribution: Distribution) -> Floats:
    """Return the exact quantiles at SHARES: float64[n], NaN without samples."""
    values, shares = distribution.cdf()
    if len(values) == 0:
        return np.full(len(SHARES), np.nan)
    # Shares are sums: a quantile counts as reached when rounding alone is missing.
    return np.asarray(values[np.searchsorted(shares, SHARES - 1e-9).clip(max=len(values) - 1)])


def kept_steps(time_s: Floats, most: int) -> NDArray[np.int64]:
    """Return even steps, and both ends of the longest pauses.

    Args:
        time_s: float64[n], times of the steps, increasing.
        most: Maximum number of steps.
    """
    if len(time_s) <= most:
        return np.arange(len(time_s))
    pauses = np.argsort(-np.diff(time_s), kind="stable")[: most // 4]
    even = np.linspace(0, len(time_s) - 1, most // 2).astype(np.int64)
    return np.unique(np.concatenate([even, pauses, pauses + 1]))


def shared_steps(curves: Mapping[int, Steps], span_s: tuple[float, float]) -> tuple[Floats, dict[int, Floats]]:
    """Return step functions at the same times.

    Args:
        curves: By number of the series.
        span_s: Times outside are left out; both ends are added.

    Returns:
        float64[n] times, seconds, and the values from each of them on: float64[n] by number of the series.
    """
    parts: list[Floats] = [np.array(span_s)]
    for steps in curves.values():
        inside = steps.time_s[(steps.time_s >= span_s[0]) & (steps.time_s <= span_s[1])]
        parts.append(inside[kept_steps(inside, MAX_STEPS // len(curves))])
    time_s = np.unique(np.concatenate(parts))
    return time_s, {index: steps.at(time_s) for index, steps in curves.items()}


def interval_means(replicas: Sequence[IterationValues], edges: Floats) -> Floats:
    """Return the means over the iterations that end in each interval.

    Where none ends, they are of the iterations that are computed then, and NaN if all replicas are idle.

    Args:
        replicas: At least one.
        edges: Edges of the intervals, increasing.
    """
    num_bins = len(edges) - 1
    sums, counts = np.zeros(num_bins), np.zeros(num_bins)
    across_sums, num_across = np.zeros(num_bins), np.zeros(num_bins)
    for start_s, end_s, values in replicas:
        if len(end_s) == 0:
            continue
        bins = np.clip(np.searchsorted(edges, end_s, side="left") - 1, 0, num_bins - 1)
        sums += np.bincount(bins, weights=values, minlength=num_bins)
        counts += np.bincount(bins, minlength=num_bins)
        # The first of the iterations that end after an interval, if it is underway in it; else idle, NaN.
        following = np.searchsorted(end_s, edges[1:], side="right")
        known = np.minimum(following, len(end_s) - 1)
        across = np.where((following < len(end_s)) & (start_s[known] < edges[1:]), values[known], np.nan)
        across_sums += np.nan_to_num(across)
        num_across += np.isfinite(across)
    sums, counts = np.where(counts > 0, (sums, counts), (across_sums, num_across))
    return np.asarray(np.divide(sums, counts, out=np.full(num_bins, np.nan), where=counts > 0))
