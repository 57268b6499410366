"""Picture of a search: cost against each objective."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from simulator.search.outcomes import NEVER_S, Outcome, pareto, set_of
from traces.whole_files import write_whole

COLOURS = ("#2f5f9e", "#e08e2b", "#4e9a52", "#7d5ba6", "#8c6d46", "#d178b0")
DPI = 110


def draw(outcomes: Sequence[Outcome], bounds: Mapping[str, float], path: Path) -> None:
    """Draw a panel for each objective: deployments within the SLO in colour by device, others grey, and the front.

    Args:
        outcomes: What was tried.
        bounds: Seconds by objective.
        path: PNG file.
    """
    figure = Figure(figsize=(5.4 * len(bounds), 4.2), layout="constrained")
    devices = list(dict.fromkeys(one.device for one in outcomes))
    for axes, (objective, bound_s) in zip(
        figure.subplots(1, len(bounds), squeeze=False)[0], bounds.items(), strict=True
    ):
        shown = [one for one in set_of(outcomes) if one.values[objective] < NEVER_S]
        for place, device in enumerate(devices):
            for met, alpha, colour in ((False, 0.35, "#999999"), (True, 0.9, COLOURS[place % len(COLOURS)])):
                points = [one for one in shown if one.device == device and one.met == met]
                outside = "outside the SLO" if place == 0 else None
                label = (device if points else None) if met else outside
                cost, seconds = [one.cost_per_hour_usd for one in points], [one.values[objective] for one in points]
                axes.scatter(cost, seconds, s=18, alpha=alpha, color=colour, label=label, linewidths=0)
        front = pareto(outcomes, objective)
        cost, seconds = [one.cost_per_hour_usd for one in front], [one.values[objective] for one in front]
        axes.step(cost, seconds, where="post", color="#222222", linewidth=1, label="Pareto front" if front else None)
        axes.axhline(bound_s, color="#c0504d", linestyle="--", linewidth=1, label="bound")
        axes.set(xlabel="cost, US dollars per hour", ylabel=f"{objective}, s")
        axes.set_yscale("log")
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    write_whole(path, content.getvalue())
