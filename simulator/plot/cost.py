"""Cost of deployments against latency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.plot.axis_labels import objective_axis
from traces.shared.figure_style import GREY, MARKERS, grid, line, make_logarithmic, styled

_PALE = "#BBBBBB"
# Offsets of a number from its point, in points; the first at which it meets no other number.
_OFFSETS = ((6, 6), (-6, -6), (6, -6), (-6, 6), (14, 0), (-14, 0), (0, 14), (0, -14))
_NUMBER_SIZE = 11.0


@dataclass(frozen=True)
class PricedPoint:
    """A deployment with its price and latencies.

    Attributes:
        device: Name of its GPUs.
        label: Short description of the rest of the deployment.
        cost_per_hour_usd: Price, US dollars per hour.
        values: Seconds by objective, such as "tbt_p99"; None: no value.
        met: Whether it meets every bound.
        fronts: Objectives for which no cheaper deployment is as good.
    """

    device: str
    label: str
    cost_per_hour_usd: float
    values: Mapping[str, float | None]
    met: bool
    fronts: Sequence[str]


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
    taken: list[tuple[float, float]] = []
    points_per_pixel = 72 / axes.figure.dpi
    for number, cost, latency in front:
        x, y = axes.transData.transform((cost, latency)) * points_per_pixel
        centres = [(x + right, y + up) for right, up in _OFFSETS]
        free = [
            index
            for index, (right, up) in enumerate(centres)
            if all(max(abs(right - other), abs(up - above)) > _NUMBER_SIZE for other, above in taken)
        ]
        chosen = free[0] if free else 0
        taken.append(centres[chosen])
        at: tuple[float, float] = (cost, latency)
        axes.annotate(
            str(number), at, _OFFSETS[chosen], textcoords="offset points", ha="center", va="center", fontsize=8
        )


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
