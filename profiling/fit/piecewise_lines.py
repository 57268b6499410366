"""Straight lines with breaks: where a curve of measured times is cut, by dynamic programming."""

from collections.abc import Sequence

import numpy as np

from simulator.iteration_time import Floats

# A slope needs this many points; fewer get their weighted mean.
FEWEST_FOR_A_LINE = 3


def cut(x: Floats, y: Floats, penalty: float) -> Sequence[tuple[int, int]]:
    """Cut points into runs so that relative squared errors plus a penalty per run are least.

    Args:
        x: float64[n], increasing.
        y: float64[n], above 0.
        penalty: What a run costs, in squared relative error.

    Returns:
        Half-open ranges of places, in order.

    Source: optimal partitioning, Jackson et al., IEEE Signal Processing Letters 2005.
    """
    num_points = len(x)
    costs = _line_costs(x, y) + penalty
    best = np.zeros(num_points + 1)
    begin = np.zeros(num_points + 1, dtype=np.int64)
    for end in range(1, num_points + 1):
        totals = best[:end] + costs[:end, end - 1]
        begin[end] = np.argmin(totals)
        best[end] = totals[begin[end]]
    runs = []
    end = num_points
    while end > 0:
        runs.append((int(begin[end]), end))
        end = int(begin[end])
    return runs[::-1]


def line(x: Floats, y: Floats) -> tuple[float, float]:
    """Value at 0 and slope by least relative squares; slope 0 through too few points."""
    if len(x) < FEWEST_FOR_A_LINE:
        return float(np.average(y, weights=1 / y**2)), 0.0
    slope, start = np.polyfit(x, y, 1, w=1 / y)
    return float(start), float(slope)


def _line_costs(x: Floats, y: Floats) -> Floats:
    """Relative squared error of the line through points i to j: float64[n, n], infinite below the diagonal."""
    weight = 1 / y**2
    moments = [weight, weight * x, weight * x * x, weight * y, weight * x * y, weight * y * y]
    total, sum_x, sum_xx, sum_y, sum_xy, sum_yy = (_range_sums(moment) for moment in moments)
    places = np.arange(len(x))
    length = places[None, :] - places[:, None] + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = sum_xx - sum_x**2 / total
        explained = (sum_xy - sum_x * sum_y / total) ** 2 / spread
        constant = sum_yy - sum_y**2 / total
    costs = np.where(length >= FEWEST_FOR_A_LINE, constant - explained, constant)
    return np.where(length >= 1, np.maximum(costs, 0.0), np.inf)


def _range_sums(values: Floats) -> Floats:
    """Sums over i to j, both included: float64[n, n]."""
    running = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(running[None, 1:] - running[:-1, None])
