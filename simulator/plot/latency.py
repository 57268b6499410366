"""Latency distributions of runs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.plot.axis_labels import axis_of
from simulator.results import Distribution, Result, duration
from traces.shared.figure_style import grid, legible, line, make_logarithmic, styled

_POINTS = 1000
_WIDTH = 4.0
_MOST_COLUMNS = 3


@styled
def latency_cdfs(runs: Mapping[str, Result], metrics: Sequence[str] = ("ttft_s", "tbt_s", "e2e_s")) -> Figure:
    """Draw the CDF of each latency; a dot marks each P99.

    Args:
        runs: Runs by name.
        metrics: Keys of `LATENCIES`, one panel each.
    """
    width = _WIDTH if len(metrics) == 1 else None
    figure, panels = grid(1, len(metrics), height=3.1 + 0.18 * len(runs), width=width)
    for axes, metric in zip(panels, metrics, strict=True):
        label, unit_s = axis_of(metric)
        _draw(axes, {name: run.latencies[metric] for name, run in runs.items()}, unit_s)
        axes.set_xlabel(label)
        axes.set_ylabel(f"share of {'gaps' if metric == 'tbt_s' else 'requests'}, %")
    if len(runs) > 1:
        handles = [handle for handle in panels[0].lines if handle.get_gid() == "cdf"]
        columns = min(_MOST_COLUMNS if len(metrics) > 1 else 1, len(runs))
        figure.legend(handles, list(map(legible, runs)), loc="outside lower left", ncols=columns)
    return figure


def _draw(axes: Axes, latencies: Mapping[str, Distribution], unit_s: float) -> None:
    lowest, highest = [], []
    for index, latency in enumerate(latencies.values()):
        values, shares = latency.cdf()
        if len(values) == 0:
            axes.plot([], [], label="no data", gid="cdf", **line(index))
            continue
        # There may be millions of samples; the points drawn are exact values of the CDF.
        shown = np.unique(np.searchsorted(shares, np.linspace(0, 1, _POINTS)).clip(max=len(values) - 1))
        p99 = latency.statistic("p99") or 0.0
        label = f"P99 {duration(p99)}"
        axes.step(values[shown] / unit_s, 100 * shares[shown], where="post", label=label, gid="cdf", **line(index))
        axes.plot([p99 / unit_s], [99], "o", color=line(index)["color"], markersize=4)
        lowest.append(values[values > 0].min(initial=values[-1]) / unit_s)
        highest.append(values[-1] / unit_s)
    if highest and min(lowest) > 0 and max(highest) > 10 * min(lowest):
        make_logarithmic(axes, x=True)
    axes.set_ylim(0, 101)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25))
