"""Latency against load, and capacity against SLO."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from simulator.plot.axis_labels import objective_axis
from traces.shared.figure_style import GREY, WIDTH, bars, grid, legible, line, make_logarithmic, points, styled

Points = Sequence[tuple[float, float]]
# Latencies that span less than this factor are on a linear axis from 0.
_LOG_FROM = 5.0


def knee(loads: Sequence[float], latencies: Sequence[float]) -> tuple[int, int] | None:
    """Return indices of loads around the knee of a latency curve.

    Beyond the knee, latency grows faster than the load. The knee maximises load over latency, the "power" of a queueing
    system. Of a curve that is known at some loads, the maximum lies between the neighbours of the largest value; None:
    this is the first or the last load.

    Args:
        loads: Requests per second, above 0, in ascending order.
        latencies: Seconds at each load, above 0.

    Source: Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer
        communications", ICC 1979.
    """
    largest = int(np.argmax(np.asarray(loads) / np.asarray(latencies)))
    return (largest - 1, largest + 1) if 0 < largest < len(loads) - 1 else None


@styled
def latency_against_load(
    series: Mapping[str, Mapping[str, Points]],
    bounds: Mapping[str, float] | None = None,
    capacity_qps: float | None = None,
    overloaded: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draw latency against the arrival rate.

    The part of a curve in which its knee lies is wide, see `knee`; not where a capacity is marked, whose search chose
    the loads. Hollow markers are overloaded runs, whose latency depends on the length of the trace.

    Args:
        series: By latency statistic, such as "ttft_p90", then by name: (requests/s, seconds) in any order.
        bounds: Bounds in seconds, by latency statistic.
        capacity_qps: Arrival rate to mark, requests/s.
        overloaded: By name, the arrival rates of overloaded runs; no knee lies beyond them.
    """
    names = list(dict.fromkeys(name for curves in series.values() for name in curves))
    figure, panels = grid(1, len(series), height=3.0 + 0.18 * len(names), width=None if len(series) > 1 else 5.0)
    for axes, (objective, curves) in zip(panels, series.items(), strict=True):
        label, unit_s = objective_axis(objective)
        drawn = []
        for name, curve in curves.items():
            curve_ms = [(load, seconds / unit_s) for load, seconds in curve]
            shows_knee = capacity_qps is None
            _draw_curve(axes, curve_ms, names.index(name), (overloaded or {}).get(name, ()), shows_knee)
            drawn += [value for _, value in curve_ms]
        if bounds and objective in bounds:
            bound = bounds[objective] / unit_s
            axes.axhline(bound, color=GREY, linestyle=(0, (5, 2)), linewidth=1)
            drawn.append(bound)
        if capacity_qps is not None:
            axes.axvline(capacity_qps, color=GREY, linestyle=":")
        axes.set(xlabel="load, requests/s", ylabel=label)
        axes.set_xlim(left=0)
        if drawn and min(drawn) > 0 and max(drawn) > _LOG_FROM * min(drawn):
            make_logarithmic(axes, y=True)
        else:
            axes.set_ylim(bottom=0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.25))
    handles = _load_legend(names, bounds, capacity_qps, overloaded)
    if handles:
        figure.legend(handles=handles, loc="outside lower left", ncols=4)
    return figure


def _load_legend(
    names: Sequence[str],
    bounds: Mapping[str, float] | None,
    capacity_qps: float | None,
    overloaded: Mapping[str, Sequence[float]] | None,
) -> list[Line2D]:
    handles = [Line2D([], [], label=legible(name), **points(index)) for index, name in enumerate(names) if name]
    if bounds:
        handles.append(Line2D([], [], color=GREY, linestyle=(0, (5, 2)), linewidth=1, label="bound of the SLO"))
    if capacity_qps is not None:
        label = f"capacity, {capacity_qps:.3g} requests/s"
        handles.append(Line2D([], [], color=GREY, linestyle=":", label=label))
    if overloaded:
        hollow: Any = {"linestyle": "none", "marker": "o", "color": GREY, "markerfacecolor": "white"}
        handles.append(Line2D([], [], label="overloaded", **hollow))
    return handles


def _draw_curve(axes: Axes, curve: Points, index: int, overloaded: Sequence[float], shows_knee: bool) -> None:
    loads, latencies = _sorted(curve)
    is_overloaded = np.isin(loads, overloaded)
    axes.plot(loads, latencies, **points(index))
    hollow = {**points(index), "linestyle": "none", "markerfacecolor": "white"}
    axes.plot(loads[is_overloaded], latencies[is_overloaded], **hollow)
    usable = np.flatnonzero((latencies > 0) & (loads > 0) & ~is_overloaded)
    around = knee(loads[usable].tolist(), latencies[usable].tolist()) if shows_knee and len(usable) else None
    if around is not None:
        first, last = usable[list(around)]
        wide: Any = {"color": line(index)["color"], "linewidth": 7, "alpha": 0.3, "solid_capstyle": "butt"}
        label = f"knee between {loads[first]:.3g} and {loads[last]:.3g}"
        axes.plot(loads[first : last + 1], latencies[first : last + 1], label=label, **wide)


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
    figure, (axes,) = grid(1, 1, width=5.6, height=3.6)
    label, unit_s = objective_axis(objective)
    for index, (name, curve) in enumerate(curves.items()):
        bounds, rates = _sorted([(bound_s / unit_s, rate) for bound_s, rate in curve])
        axes.plot(bounds, rates, label=legible(name) or None, **points(index))
        if intervals and name in intervals:
            order = np.argsort([bound for bound, _ in curve])
            low, high = np.array(intervals[name])[order].T
            axes.fill_between(bounds, low, high, color=line(index)["color"], alpha=0.15, linewidth=0)
    axes.set(xlabel=f"bound on {label}", ylabel="capacity, requests/s")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    if any(curves):
        figure.legend(loc="outside lower left", ncols=3)
    return figure


@styled
def capacities(rates: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw capacities as grouped bars.

    Args:
        rates: Requests/s by series, then by group.
    """
    groups = list(dict.fromkeys(group for series in rates.values() for group in series))
    figure, (axes,) = grid(1, 1, width=min(WIDTH, max(4.0, 1.2 * len(groups) + 2)), height=3.4)
    width = 0.8 / len(rates)
    for index, (name, series) in enumerate(rates.items()):
        shown = [number for number, group in enumerate(groups) if group in series]
        x = [number - 0.4 + (index + 0.5) * width for number in shown]
        heights = [series[groups[number]] for number in shown]
        drawn = axes.bar(x, heights, width, label=legible(name) or None, **bars(index))
        axes.bar_label(drawn, [f"{height:#.3g}".rstrip(".") for height in heights], fontsize=7, padding=2)
    axes.set_xticks(range(len(groups)), [group.replace(", ", "\n") for group in groups])
    axes.set_ylabel("capacity, requests/s")
    axes.margins(y=0.1)
    axes.grid(visible=False, axis="x")
    if len(rates) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=min(4, len(rates)))
    return figure


def _sorted(curve: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = zip(*sorted(curve), strict=True)
    return np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
