"""Piecewise straight lines: segmentation of measured times by dynamic programming."""

from collections.abc import Sequence

import numpy as np

from simulator.iteration_time import Floats

# A slope needs this many points; fewer get their weighted mean.
MIN_LINE_POINTS = 3


def cut(x: Floats, y: Floats, penalty: float) -> Sequence[tuple[int, int]]:
    """Cut points into segments for piecewise lines.

    Minimizes the total relative squared error plus a penalty per segment.

    Args:
        x: float64[n], increasing.
        y: float64[n], above 0.
        penalty: Cost of a segment, in squared relative error.

    Returns:
        Half-open ranges of indices, in order.

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
    segments = []
    end = num_points
    while end > 0:
        segments.append((int(begin[end]), end))
        end = int(begin[end])
    return segments[::-1]


def fit_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Fit a line by least relative squares.

    Returns:
        Its value at 0 and its slope; the slope is 0 for too few points.
    """
    if len(x) < MIN_LINE_POINTS:
        return float(np.average(y, weights=1 / y**2)), 0.0
    slope, start = np.polyfit(x, y, 1, w=1 / y)
    return float(start), float(slope)


def _line_costs(x: Floats, y: Floats) -> Floats:
    """Return the relative squared error of each range's line.

    Returns:
        float64[n, n], the error of the line through points i to j, both included; infinite for j < i.
    """
    weight = 1 / y**2
    moments = [weight, weight * x, weight * x * x, weight * y, weight * x * y, weight * y * y]
    total, sum_x, sum_xx, sum_y, sum_xy, sum_yy = (_range_sums(moment) for moment in moments)
    index = np.arange(len(x))
    length = index[None, :] - index[:, None] + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = sum_xx - sum_x**2 / total
        explained = (sum_xy - sum_x * sum_y / total) ** 2 / spread
        constant = sum_yy - sum_y**2 / total
    costs = np.where(length >= MIN_LINE_POINTS, constant - explained, constant)
    return np.where(length >= 1, np.maximum(costs, 0.0), np.inf)


def _range_sums(values: Floats) -> Floats:
    """Return sums from i to j, both included: float64[n, n]."""
    running = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(running[None, 1:] - running[:-1, None])
