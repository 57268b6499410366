"""Latency distributions of runs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.results import LATENCIES, Distribution, Result, duration
from traces.shared.figure_style import grid, legible, line, make_logarithmic, styled

LABELS = {name: f"{words}, s" for name, words in LATENCIES.items()}
_POINTS = 1000


def objective_label(objective: str) -> str:
    """Return the axis label of a latency statistic.

    Args:
        objective: Its name, such as "tbt_p99" or "chat.tbt_p99".
    """
    client, _, own = objective.rpartition(".")
    metric, _, statistic = own.rpartition("_")
    return f"{client} {statistic.upper()} {LABELS[f'{metric}_s']}".lstrip()


@styled
def latency_cdfs(runs: Mapping[str, Result], metrics: Sequence[str] = ("ttft_s", "tbt_s", "e2e_s")) -> Figure:
    """Draw the CDF of each latency; a dot marks each P99.

    Args:
        runs: Runs by name.
        metrics: Keys of LABELS, one panel each.
    """
    figure, panels = grid(1, len(metrics), width=4.0, height=3.0 + 0.2 * len(runs))
    for axes, metric in zip(panels, metrics, strict=True):
        latencies = {name: run.latencies[metric] for name, run in runs.items()}
        _draw(axes, latencies)
        axes.set_xlabel(LABELS[metric])
        axes.set_ylabel(f"share of {'gaps' if metric == 'tbt_s' else 'requests'}, %")
    return figure


def _draw(axes: Axes, latencies: Mapping[str, Distribution]) -> None:
    lowest, highest = [], []
    for index, (name, latency) in enumerate(latencies.items()):
        values, shares = latency.cdf()
        if len(values) == 0:
            axes.plot([], [], label=f"{legible(name)}, no data", **line(index))
            continue
        # There may be millions of samples; the points drawn are exact values of the CDF.
        shown = np.unique(np.searchsorted(shares, np.linspace(0, 1, _POINTS)).clip(max=len(values) - 1))
        p99 = latency.statistic("p99") or 0.0
        axes.step(
            values[shown],
            100 * shares[shown],
            where="post",
            label=f"{legible(name)}, P99 {duration(p99)}",
            **line(index),
        )
        axes.plot([p99], [99], "o", color=line(index)["color"], markersize=4)
        lowest.append(values[values > 0].min(initial=values[-1]))
        highest.append(values[-1])
    if highest and min(lowest) > 0 and max(highest) > 10 * min(lowest):
        make_logarithmic(axes, x=True)
    axes.set_ylim(0, 101)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2))
