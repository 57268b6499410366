"""Cost of deployments against latency."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.plot.axis_labels import objective_axis
from simulator.results import PricedPoint
from traces.shared.figure_style import GREY, MARKERS, grid, line, make_logarithmic, styled

_PALE = "#BBBBBB"
# Offsets of a number from its point, in points: the first is taken at which it meets no other number.
_OFFSETS = [
    (distance * math.cos(math.radians(angle)), distance * math.sin(math.radians(angle)))
    for distance in (9, 16, 24, 32, 40, 48)
    for angle in (45, 225, 68, 248, 22, 202, 90, 270, 0, 180, 135, 315)
]
_NUMBER_SIZE, _MARK_DISTANCE = 11.0, 6.0


@styled
def cost_against_latency(deployments: Sequence[PricedPoint], bounds: Mapping[str, float]) -> Figure:
    """Draw one panel per objective, with its Pareto front.

    Deployments that meet every bound have the colour of their device; the others are grey. Those on a front are
    numbered, and listed below by price.

    Args:
        deployments: Evaluated deployments.
        bounds: Seconds by objective.
    """
    on_front = sorted((point for point in deployments if point.fronts), key=lambda point: point.cost_per_hour_usd)
    figure, panels = grid(
        1, len(bounds), height=3.4 + 0.17 * max(3, len(on_front)), width=None if len(bounds) > 1 else 6.0
    )
    devices = list(dict.fromkeys(deployment.device for deployment in deployments))
    for axes, (objective, bound_s) in zip(panels, bounds.items(), strict=True):
        label, unit_s = objective_axis(objective)
        _draw_deployments(axes, deployments, objective, unit_s, devices)
        axes.axhline(bound_s / unit_s, color=GREY, linestyle=(0, (5, 2)), linewidth=1)
        axes.set(xlabel="cost, US dollars per hour", ylabel=label)
        axes.margins(x=0.1, y=0.1)
        make_logarithmic(axes, x=True, y=True)
    figure.legend(handles=_legend(deployments, devices), loc="outside lower left", ncols=2)
    if on_front:
        lines = [
            f"{number}:  ${point.cost_per_hour_usd:,.2f}/h, {point.device}, {point.label}"
            for number, point in enumerate(on_front, start=1)
        ]
        blank = [Line2D([], [], linestyle="none") for _ in lines]
        figure.legend(blank, lines, loc="outside lower right", handlelength=0)
    figure.draw_without_rendering()  # the layout decides which numbers would meet
    for axes, objective in zip(panels, bounds, strict=True):
        _draw_front(axes, on_front, objective, objective_axis(objective)[1])
    return figure


def _draw_deployments(
    axes: Axes, deployments: Sequence[PricedPoint], objective: str, unit_s: float, devices: Sequence[str]
) -> None:
    # Those that meet every bound are drawn over the others.
    for point in sorted(deployments, key=lambda point: point.met):
        seconds, index = point.values[objective], devices.index(point.device)
        if seconds is not None:
            colour = line(index)["color"] if point.met else _PALE
            marker = MARKERS[index % len(MARKERS)]
            axes.scatter(point.cost_per_hour_usd, seconds / unit_s, s=20, marker=marker, color=colour, linewidth=0)


def _draw_front(axes: Axes, on_front: Sequence[PricedPoint], objective: str, unit_s: float) -> None:
    """Draw the front as steps, with the numbers of its deployments."""
    front = [
        (number, point.cost_per_hour_usd, seconds / unit_s)
        for number, point in enumerate(on_front, start=1)
        if objective in point.fronts and (seconds := point.values[objective]) is not None
    ]
    if not front:
        return
    axes.step([cost for _, cost, _ in front], [latency for _, _, latency in front], where="post", color="black", lw=1)
    style: Any = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 8}
    style["arrowprops"] = {"arrowstyle": "-", "linewidth": 0.6, "color": GREY, "shrinkA": 0, "shrinkB": 3}
    positions = [(cost, latency) for _, cost, latency in front]
    for (number, *_), position, offset in zip(front, positions, _free_offsets(axes, positions), strict=True):
        axes.annotate(str(number), position, offset, **style)


def _free_offsets(axes: Axes, positions: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield an offset for the number of each position, in points.

    The numbers meet neither one another, nor a position, nor the edge of the panel, while there is room.
    """
    box, points = axes.get_window_extent(), 72 / axes.figure.dpi
    low, high = np.array(box.min) * points + _NUMBER_SIZE, np.array(box.max) * points - _NUMBER_SIZE
    marks = axes.transData.transform(positions) * points
    taken = np.empty((0, 2))
    for mark in marks:
        centres = mark + np.array(_OFFSETS)
        free = ((low < centres) & (centres < high)).all(axis=1)
        for others, distance in ((taken, _NUMBER_SIZE), (marks, _MARK_DISTANCE)):
            apart = np.abs(centres[:, None] - others[None]).max(axis=2, initial=0) > distance
            free &= apart.all(axis=1)
        chosen = int(free.argmax())
        taken = np.vstack([taken, centres[chosen]])
        yield _OFFSETS[chosen]


def _legend(deployments: Sequence[PricedPoint], devices: Sequence[str]) -> list[Line2D]:
    style: Any = {"linestyle": "none", "markersize": 5}
    handles = [
        Line2D([], [], color=line(index)["color"], marker=MARKERS[index % len(MARKERS)], label=device, **style)
        for index, device in enumerate(devices)
    ]
    if not all(point.met for point in deployments):
        handles.append(Line2D([], [], color=_PALE, marker="o", label="misses a bound", **style))
    handles.append(Line2D([], [], color=GREY, linestyle=(0, (5, 2)), linewidth=1, label="bound of the SLO"))
    if any(point.fronts for point in deployments):
        handles.append(Line2D([], [], color="black", linewidth=1, label="Pareto front"))
    return handles
