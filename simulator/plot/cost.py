"""Cost of deployments against their latencies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.plot.latency import objective_label
from traces.shared.figure_style import GREY, MARKERS, grid, line, make_logarithmic, styled


@dataclass(frozen=True)
class PricedPoint:
    """A deployment with its price and what it shows.

    Attributes:
        device: Name of its GPUs.
        label: What else it is, in a few words.
        cost_per_hour_usd: Its price.
        values: Seconds by objective, such as "tbt_p99"; None: nobody has shown it.
        met: Whether it keeps all bounds.
        fronts: Objectives in which no cheaper deployment is as good.
    """

    device: str
    label: str
    cost_per_hour_usd: float
    values: Mapping[str, float | None]
    met: bool
    fronts: Sequence[str]


@styled
def cost_against_latency(deployments: Sequence[PricedPoint], bounds: Mapping[str, float]) -> Figure:
    """Draw a panel for each objective: deployments within all bounds in colour by device, others grey, and the front.

    Args:
        deployments: What was tried.
        bounds: Seconds by objective.
    """
    figure, panels = grid(1, len(bounds), width=5.4, height=4.8)
    devices = list(dict.fromkeys(one.device for one in deployments))
    for axes, (objective, bound_s) in zip(panels, bounds.items(), strict=True):
        _tried(axes, deployments, objective, devices)
        front = sorted(
            (one.cost_per_hour_usd, seconds, f"{one.device}, {one.label}")
            for one in deployments
            if objective in one.fronts and (seconds := one.values[objective]) is not None
        )
        if front:
            cost, seconds_of, labels = zip(*front, strict=True)
            axes.step(
                cost, seconds_of, where="post", color="black", linewidth=1, label="Pareto front within all bounds"
            )
            for place, text in enumerate(labels):
                axes.annotate(
                    text, (cost[place], seconds_of[place]), (5, 4), textcoords="offset points", fontsize=7, rotation=30
                )
        axes.axhline(bound_s, color=GREY, linestyle=(0, (5, 2)), linewidth=1, label=f"bound, {bound_s:g} s")
        axes.set(xlabel="cost, US dollars per hour", ylabel=objective_label(objective))
        axes.margins(x=0.2, y=0.12)
        make_logarithmic(axes, x=True, y=True)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.15), ncols=2)
    return figure


def _tried(axes: Axes, deployments: Sequence[PricedPoint], objective: str, devices: Sequence[str]) -> None:
    for place, device in enumerate(devices):
        for met in (False, True):
            points = [
                (one.cost_per_hour_usd, seconds)
                for one in deployments
                if one.device == device and one.met == met and (seconds := one.values[objective]) is not None
            ]
            if points:
                cost, seconds_of = zip(*points, strict=True)
                colour = line(place)["color"] if met else "#BBBBBB"
                label = device if met else f"{device}, outside a bound"
                marker = MARKERS[place % len(MARKERS)]
                axes.scatter(cost, seconds_of, s=20, marker=marker, color=colour, label=label, linewidth=0)
