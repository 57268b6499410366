"""Cost of deployments against latency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.plot.latency import objective_label
from traces.shared.figure_style import GREY, MARKERS, grid, line, make_logarithmic, styled


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

    Deployments that meet every bound have the colour of their device; the others are grey.

    Args:
        deployments: Evaluated deployments.
        bounds: Seconds by objective.
    """
    figure, panels = grid(1, len(bounds), width=5.4, height=4.8)
    devices = list(dict.fromkeys(deployment.device for deployment in deployments))
    for axes, (objective, bound_s) in zip(panels, bounds.items(), strict=True):
        _draw_deployments(axes, deployments, objective, devices)
        front = sorted(
            (deployment.cost_per_hour_usd, seconds, f"{deployment.device}, {deployment.label}")
            for deployment in deployments
            if objective in deployment.fronts and (seconds := deployment.values[objective]) is not None
        )
        if front:
            costs, latencies, labels = zip(*front, strict=True)
            axes.step(costs, latencies, where="post", color="black", linewidth=1, label="Pareto front, SLO met")
            for index, text in enumerate(labels):
                axes.annotate(
                    text, (costs[index], latencies[index]), (5, 4), textcoords="offset points", fontsize=7, rotation=30
                )
        axes.axhline(bound_s, color=GREY, linestyle=(0, (5, 2)), linewidth=1, label=f"bound, {bound_s:g} s")
        axes.set(xlabel="cost, US dollars per hour", ylabel=objective_label(objective))
        axes.margins(x=0.2, y=0.12)
        make_logarithmic(axes, x=True, y=True)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.15), ncols=2)
    return figure


def _draw_deployments(axes: Axes, deployments: Sequence[PricedPoint], objective: str, devices: Sequence[str]) -> None:
    for index, device in enumerate(devices):
        for met in (False, True):
            points = [
                (deployment.cost_per_hour_usd, seconds)
                for deployment in deployments
                if deployment.device == device
                and deployment.met == met
                and (seconds := deployment.values[objective]) is not None
            ]
            if points:
                costs, latencies = zip(*points, strict=True)
                colour = line(index)["color"] if met else "#BBBBBB"
                label = device if met else f"{device}, SLO missed"
                marker = MARKERS[index % len(MARKERS)]
                axes.scatter(costs, latencies, s=20, marker=marker, color=colour, label=label, linewidth=0)
