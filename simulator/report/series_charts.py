"""Charts of sweeps, capacities and searches: points by load, bound or price."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource

from simulator.report.charts import (
    Axis,
    Chart,
    Key,
    add_tooltips,
    draw_rule,
    key_of,
    line_style,
    marker_style,
    new_drawing,
    of_series,
    symbol_of,
)
from simulator.results import PricedPoint, objective_label, slo_word
from traces.shared.figure_style import DECODE, GREY

Points = Sequence[tuple[float, float]]
_MAX_BARS = 40
_LONGEST_LABEL = 40


def objective_axis(objective: str, is_log: bool = False) -> tuple[Axis, float]:
    """Return the axis of an objective, and the factor to its unit."""
    if objective.rpartition(".")[2] == "goodput":
        return Axis(f"{objective_label(objective)}, %", "0.[0]"), 100.0
    return Axis(f"{objective_label(objective)}, ms", "0,0.[00]", is_log), 1000.0


def line_chart(
    title: str,
    axes: tuple[Axis, Axis],
    curves: Mapping[str, Points],
    hollow: Mapping[str, Sequence[float]] | None = None,
    rules: Mapping[str, float] | None = None,
    note: str = "",
) -> Chart:
    """Return a chart of curves with a marker at each point.

    Args:
        title: Title.
        axes: Its axes.
        curves: Points by name, in any order.
        hollow: Abscissae of hollow markers, by name.
        rules: Lines across: "height" at an abscissa, "width" at an ordinate.
        note: What the title does not say.
    """
    drawing = new_drawing(*axes)
    markers = []
    for index, (name, curve) in enumerate(curves.items()):
        x, y = map(np.array, zip(*sorted(curve), strict=True))
        filled = np.where(np.isin(x, (hollow or {}).get(name, ())), 0.0, 1.0)
        source = ColumnDataSource({"x": x, "y": y, "filled": filled, "name": [name] * len(x)})
        of_series(index, drawing.line("x", "y", source=source, **line_style(index)))
        drawn = drawing.scatter("x", "y", source=source, fill_alpha="filled", **marker_style(index))
        markers.append(of_series(index, drawn))
    named = [("", "@name")] if any(curves) else []
    values = [(axis.quantity, axis.value(column)) for axis, column in zip(axes, "xy", strict=True)]
    add_tooltips(drawing, markers, [*named, *values])
    for dimension, location in (rules or {}).items():
        draw_rule(drawing, "height" if dimension == "height" else "width", location)
    drawing.x_range.start = 0
    if not axes[1].is_log:
        drawing.y_range.start = 0
    keys = [key_of(index, name) for index, name in enumerate(curves)] if any(curves) else []
    return Chart(title, drawing, keys, note)


def bar_chart(title: str, axis: Axis, bars: Mapping[str, float]) -> Chart:
    """Return a chart with a bar for each name, at most 40."""
    shown = dict(list(bars.items())[:_MAX_BARS])
    labels = _short_labels(list(shown))
    source = ColumnDataSource({"label": labels, "name": list(shown), "value": list(shown.values())})
    height = 90 + 24 * len(shown)
    drawing = new_drawing(axis, Axis("", digits=""), y_range=labels[::-1], height=height)
    drawn = drawing.hbar(y="label", right="value", height=0.7, source=source, color=DECODE)
    add_tooltips(drawing, [drawn], [("", "@name"), (axis.quantity, axis.value("value"))])
    drawing.x_range.start = 0
    note = f"the first {_MAX_BARS} of {len(bars):,}" if len(bars) > _MAX_BARS else ""
    return Chart(title, drawing, note=note)


def _short_labels(names: Sequence[str]) -> list[str]:
    """Return different labels that leave room for the bars."""
    short = [
        name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"
        for name in names
    ]
    return list(short) if len(set(short)) == len(names) else [f"{number}" for number in range(len(names))]


def pareto_chart(deployments: Sequence[PricedPoint], objective: str, bound: float) -> Chart:
    """Return cost against one objective, with the Pareto front and the bound.

    Args:
        deployments: Evaluated deployments.
        objective: Name of the objective.
        bound: Its bound.
    """
    axis, factor = objective_axis(objective, is_log=True)
    price = Axis("US dollars per hour", "$0,0.[00]")
    drawing = new_drawing(price, axis)
    devices = list(dict.fromkeys(deployment.device for deployment in deployments))
    markers = []
    for index, device in enumerate(devices):
        own = [point for point in deployments if point.device == device and point.values[objective] is not None]
        style = {**marker_style(index), "fill_alpha": "strength", "line_alpha": "strength"}
        drawn = drawing.scatter("x", "y", source=_source(own, objective, factor), **style)
        markers.append(of_series(index, drawn))
    front = sorted(
        (point for point in deployments if objective in point.fronts), key=lambda point: point.cost_per_hour_usd
    )
    if front:
        source = _source(front, objective, factor)
        drawing.step("x", "y", source=source, mode="after", line_color="#000000")
        drawing.scatter("x", "y", source=source, size=15, fill_color=None, line_color="#000000")
    draw_rule(drawing, "width", factor * bound)
    lines = [("", "@name"), ("cost", "@x{$0,0.00}/h"), (axis.quantity, axis.value("y")), ("SLO", "@met")]
    add_tooltips(drawing, markers, lines)
    keys = [symbol_of(index, device) for index, device in enumerate(devices)]
    marks = [Key("Pareto front within the SLO", "#000000", symbol="○"), Key("bound", GREY, "6 4")]
    return Chart(f"Cost against {axis.quantity}", drawing, [*keys, *marks], "pale: misses a bound")


def _source(points: Sequence[PricedPoint], objective: str, factor: float) -> ColumnDataSource:
    data: dict[str, Any] = {
        "x": [point.cost_per_hour_usd for point in points],
        "y": [factor * (point.values[objective] or 0.0) for point in points],
        "name": [point.name for point in points],
        "met": [slo_word(point.met) for point in points],
        "strength": [1.0 if point.met else 0.25 for point in points],
    }
    return ColumnDataSource(data)
