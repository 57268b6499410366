"""Latency against load, and capacity against SLO."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulator.plot.latency import objective_label
from traces.shared.figure_style import GREY, bars, grid, legible, line, make_logarithmic, points, styled

Points = Sequence[tuple[float, float]]


def knee(loads: Sequence[float], latencies: Sequence[float]) -> int:
    """Return the index of the knee of a latency curve.

    Beyond the knee, latency grows faster than the load. The knee maximises load over latency, the "power" of a queueing
    system.

    Args:
        loads: Requests per second, above 0.
        latencies: Seconds at each load, above 0.

    Source: Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer
        communications", ICC 1979.
    """
    return int(np.argmax(np.asarray(loads) / np.asarray(latencies)))


@styled
def latency_against_load(
    series: Mapping[str, Mapping[str, Points]],
    bounds: Mapping[str, float] | None = None,
    capacity_qps: float | None = None,
    overloaded: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draw latency against the arrival rate.

    A ring marks the knee of each curve, see `knee`. Hollow markers are overloaded runs, whose latency depends on the
    length of the trace.

    Args:
        series: By latency statistic, such as "ttft_p90", then by name: (requests/s, seconds) in any order.
        bounds: Bounds in seconds, by latency statistic.
        capacity_qps: Arrival rate to mark, requests/s.
        overloaded: By name, the arrival rates of overloaded runs; these are never the knee.
    """
    figure, panels = grid(1, len(series), width=4.2, height=3.6)
    for axes, (objective, curves) in zip(panels, series.items(), strict=True):
        for index, (name, curve) in enumerate(curves.items()):
            _draw_curve(axes, curve, name, index, (overloaded or {}).get(name, ()))
        if bounds and objective in bounds:
            label = f"bound, {bounds[objective]:g} s"
            axes.axhline(bounds[objective], color=GREY, linestyle=(0, (5, 2)), linewidth=1, label=label)
        if capacity_qps is not None:
            axes.axvline(capacity_qps, color=GREY, linestyle=":", label=f"capacity, {capacity_qps:.4g} requests/s")
        axes.set(xlabel="load, requests/s", ylabel=objective_label(objective))
        axes.set_xlim(left=0)
        if all(value > 0 for curve in curves.values() for _, value in curve):
            make_logarithmic(axes, y=True)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.18))
    return figure


def _draw_curve(axes: Axes, curve: Points, name: str, index: int, overloaded: Sequence[float]) -> None:
    loads, latencies = _sorted(curve)
    is_overloaded = np.isin(loads, overloaded)
    usable = np.flatnonzero((latencies > 0) & (loads > 0) & ~is_overloaded)
    label = legible(name) or None
    if len(usable) > 2:
        at = usable[knee(loads[usable].tolist(), latencies[usable].tolist())]
        words = "no knee up to" if at == usable[-1] else "knee at or below" if at == usable[0] else "knee at"
        label = f"{legible(name)}, {words} {loads[at]:.3g} requests/s".removeprefix(", ")
        if usable[0] < at < usable[-1]:
            ring = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": line(index)["color"]}
            axes.plot(loads[at], latencies[at], "o", **ring)
    axes.plot(loads, latencies, label=label, **points(index))
    hollow = {**points(index), "linestyle": "none", "markerfacecolor": "white"}
    hollow_label = "overloaded" if is_overloaded.any() else None
    axes.plot(loads[is_overloaded], latencies[is_overloaded], label=hollow_label, **hollow)


@styled
def capacity_against_slo(
    curves: Mapping[str, Points], objective: str, intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None
) -> Figure:
    """Draw the capacity within a latency bound, against the bound.

    Args:
        curves: By name: (bound in seconds, requests/s).
        objective: Bounded latency statistic, such as "tbt_p99".
        intervals: By name: the confidence interval of each capacity, in the order of the curve.
    """
    figure, (axes,) = grid(1, 1, width=5.6, height=3.8)
    for index, (name, curve) in enumerate(curves.items()):
        bounds, rates = _sorted(curve)
        axes.plot(bounds, rates, label=legible(name) or None, **points(index))
        if intervals and name in intervals:
            order = np.argsort([bound for bound, _ in curve])
            low, high = np.array(intervals[name])[order].T
            axes.fill_between(bounds, low, high, color=line(index)["color"], alpha=0.15, linewidth=0)
    axes.set(xlabel=f"bound on {objective_label(objective)}", ylabel="capacity, requests/s")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    if any(curves):
        axes.legend()
    return figure


@styled
def capacities(rates: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw capacities as grouped bars.

    Args:
        rates: Requests/s by series, then by group.
    """
    groups = list(dict.fromkeys(group for series in rates.values() for group in series))
    figure, (axes,) = grid(1, 1, width=max(4.0, 1.2 * len(groups) + 2), height=3.4)
    width = 0.8 / len(rates)
    for index, (name, series) in enumerate(rates.items()):
        shown = [number for number, group in enumerate(groups) if group in series]
        x = [number - 0.4 + (index + 0.5) * width for number in shown]
        heights = [series[groups[number]] for number in shown]
        drawn = axes.bar(x, heights, width, label=legible(name) or None, **bars(index))
        axes.bar_label(drawn, [f"{height:.3g}" for height in heights], fontsize=7, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel("capacity, requests/s")
    axes.grid(visible=False, axis="x")
    if len(rates) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(rates)))
    return figure


def _sorted(curve: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = zip(*sorted(curve), strict=True)
    return np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
