"""Latency against load, capacity against SLO, cost against latency."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulator.plots.latency import LABELS
from traces.figure_style import GREY, grid, line, points, styled

Points = Sequence[tuple[float, float]]


def knee(loads: Sequence[float], latencies: Sequence[float]) -> int:
    """Return the place of the load beyond which latency grows faster than the load.

    It is the load that maximises load over latency, the "power" of a queueing system.

    Args:
        loads: Requests per second, above 0.
        latencies: Seconds at each of them, above 0.

    Source: Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer
        communications", ICC 1979.
    """
    return int(np.argmax(np.asarray(loads) / np.asarray(latencies)))


@styled
def latency_against_load(series: Mapping[str, Mapping[str, Points]], statistic: str = "p50") -> Figure:
    """Draw latencies against the rate of arrivals; a ring marks the knee of each curve.

    Args:
        series: By metric (keys of `latency.LABELS`), by name: (requests/s, seconds) in any order.
        statistic: What the seconds are of the metric, such as "p99".
    """
    figure, panels = grid(1, len(series), width=4.2, height=3.4)
    for axes, (metric, curves) in zip(panels, series.items(), strict=True):
        for place, (name, curve) in enumerate(curves.items()):
            loads, latencies = _sorted(curve)
            positive = latencies > 0
            axes.plot(loads, latencies, label=name or None, **points(place))
            if np.count_nonzero(positive) > 2:
                at = np.flatnonzero(positive)[knee(loads[positive], latencies[positive])]
                ring = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": line(place)["color"]}
                axes.plot(loads[at], latencies[at], "o", label=f"knee at {loads[at]:.3g} requests/s", **ring)
        axes.set(xlabel="load, requests/s", ylabel=f"{statistic.upper()} {LABELS[metric]}")
        axes.set_xlim(left=0)
        if all(value > 0 for curve in curves.values() for _, value in curve):
            axes.set_yscale("log")
        axes.legend()
    return figure


@styled
def capacity_against_slo(
    curves: Mapping[str, Points], objective: str, intervals: Mapping[str, NDArray[np.float64]] | None = None
) -> Figure:
    """Draw the load that is carried within a bound, against the bound.

    Args:
        curves: By name: (bound in seconds, requests/s).
        objective: Name of the bound, such as "tbt_p99".
        intervals: By name: float64[points, 2], the confidence interval of each rate.
    """
    figure, (axes,) = grid(1, 1, width=5.6, height=3.6)
    for place, (name, curve) in enumerate(curves.items()):
        order = np.argsort([bound for bound, _ in curve])
        bounds, rates = _sorted(curve)
        axes.plot(bounds, rates, label=name or None, **points(place))
        if intervals and name in intervals:
            low, high = intervals[name][order].T
            axes.fill_between(bounds, low, high, color=line(place)["color"], alpha=0.15, linewidth=0)
    metric, _, statistic = objective.rpartition("_")
    axes.set(xlabel=f"bound on {statistic.upper()} {LABELS[f'{metric}_s']}", ylabel="capacity, requests/s")
    axes.set_ylim(bottom=0)
    if any(curves):
        axes.legend()
    return figure


@styled
def cost_against_latency(
    tried: Points, front: Sequence[tuple[float, float, str]], objective: str, bound_s: float | None = None
) -> Figure:
    """Draw deployments by cost and latency, and the front of those that no other beats in both.

    Args:
        tried: (seconds, US dollars per hour) of each deployment.
        front: (seconds, US dollars per hour, name) of those on the front.
        objective: What the seconds are, such as "tbt_p99".
        bound_s: Its bound.
    """
    figure, (axes,) = grid(1, 1, width=6.4, height=4.0)
    if tried:
        axes.scatter(*zip(*tried, strict=True), s=16, color=GREY, alpha=0.6, linewidth=0, label="tried")
    ordered = sorted(front)
    if ordered:
        seconds, dollars, _ = zip(*ordered, strict=True)
        axes.step(seconds, dollars, where="post", marker="o", markersize=5, label="Pareto front", **line(0))
        for second, dollar, name in ordered:
            axes.annotate(name, (second, dollar), (5, 4), textcoords="offset points", fontsize=7)
    if bound_s is not None:
        axes.axvline(bound_s, label=f"bound, {bound_s:g} s", **line(1))
    metric, _, statistic = objective.rpartition("_")
    axes.set(xlabel=f"{statistic.upper()} {LABELS[f'{metric}_s']}", ylabel="cost, US dollars per hour", xscale="log")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def _sorted(curve: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = zip(*sorted(curve), strict=True)
    return np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
