"""Curves in a chart, with their values at the pointer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from bokeh.models import ColumnDataSource
from bokeh.plotting import figure
from numpy.typing import NDArray

from simulator.report.charts import Axis, add_tooltips, line_style, of_series
from traces.shared.figure_style import COLOURS

Floats = NDArray[np.float64]


@dataclass
class Curves:
    """Curves over the same abscissae.

    Attributes:
        x: float64[n], increasing.
        values: float64[n] by number of the series.
        tops: float64[n] by number of the series, up to which an area is shaded.
    """

    x: Floats
    values: Mapping[int, Floats]
    tops: Mapping[int, Floats] = field(default_factory=dict)


def draw_curves(
    drawing: figure,
    axes: tuple[Axis, Axis],
    curves: Curves,
    names: Mapping[int, str],
    shape: Literal["line", "steps"] = "line",
) -> None:
    """Draw curves, with the values of all at the pointer.

    Args:
        drawing: The chart.
        axes: Its axes.
        curves: The curves.
        names: Names by number of the series; one empty name: values have the name of the axis.
        shape: Lines, or steps after each abscissa.
    """
    data: dict[str, Any] = {"x": curves.x}
    data |= {f"y{index}": np.asarray(values, dtype=np.float32) for index, values in curves.values.items()}
    data |= {f"top{index}": np.asarray(values, dtype=np.float32) for index, values in curves.tops.items()}
    source = ColumnDataSource(data)
    for index in curves.tops:
        style: Any = {"fill_color": COLOURS[index % len(COLOURS)], "fill_alpha": 0.15}
        of_series(index, drawing.varea("x", f"y{index}", f"top{index}", source=source, **style))
    for index in curves.values:
        draw = drawing.line if shape == "line" else partial(drawing.step, mode="after")
        of_series(index, draw("x", f"y{index}", source=source, **line_style(index)))
        _draw_lone_points(drawing, curves, index)
    tooltips = [(axes[0].quantity, axes[0].value("x"))]
    for index in curves.values:
        top = f", at most {axes[1].value(f'top{index}')}" if index in curves.tops else ""
        tooltips.append((names[index] or axes[1].quantity, axes[1].value(f"y{index}") + top))
    first = next(iter(curves.values))
    column = f"y{first}"
    if np.isnan(curves.values[first]).any():
        # In its gaps, the pointer still reads the other curves.
        column = "anchor"
        source.data[column] = np.nan_to_num(source.data[f"y{first}"])
    anchor = drawing.line("x", column, source=source, line_alpha=0)
    add_tooltips(drawing, [anchor], tooltips, mode="vline", policy="prev" if shape == "steps" else "nearest")


def _draw_lone_points(drawing: figure, curves: Curves, index: int) -> None:
    """Draw values between two gaps as dots: they have no line."""
    gaps = np.isnan(np.concatenate([[np.nan], curves.values[index], [np.nan]]))
    lone = ~gaps[1:-1] & gaps[:-2] & gaps[2:]
    if lone.any():
        colour = COLOURS[index % len(COLOURS)]
        dots = drawing.scatter(curves.x[lone], curves.values[index][lone], size=3, color=colour)
        of_series(index, dots)


def draw_quantiles(
    drawing: figure, axes: tuple[Axis, Axis], shares: Floats, values: Mapping[int, Floats], names: Mapping[int, str]
) -> None:
    """Draw CDFs, with the same quantile of all at the pointer.

    Args:
        drawing: The chart.
        axes: Its axes.
        shares: float64[n], increasing, in the unit of the vertical axis.
        values: float64[n] quantiles by number of the series.
        names: Names by number of the series; one empty name: values have the name of the axis.
    """
    columns = {f"x{index}": np.asarray(quantiles, dtype=np.float32) for index, quantiles in values.items()}
    source = ColumnDataSource({"y": shares, "anchor": np.nan_to_num(next(iter(columns.values())), nan=1.0), **columns})
    tooltips = [("share", axes[1].value("y"))]
    for index in values:
        of_series(index, drawing.line(f"x{index}", "y", source=source, **line_style(index)))
        tooltips.append((names[index] or axes[0].quantity, axes[0].value(f"x{index}")))
    anchor = drawing.line("anchor", "y", source=source, line_alpha=0)
    add_tooltips(drawing, [anchor], tooltips, mode="hline")
