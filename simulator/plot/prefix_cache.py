"""Prefix cache hits and evictions over time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from simulator.results import Result, evicted_blocks, prefix_cache_hits, time_span
from traces.shared.figure_style import line, rows_of_series, styled, time_unit

_BINS = 60


@styled
def prefix_cache(runs: Mapping[str, Result]) -> Figure:
    """Draw prefix cache hits and evicted KV blocks over time.

    Several runs have a row each. The hit rate is the share of prompt tokens found in the prefix cache. In an interval,
    it counts the requests first admitted in it; it has a gap where there are none. Evictions are left out if there are
    none in any run.

    Args:
        runs: Runs by name.
    """
    begin_s, end_s = time_span(runs.values())
    unit, seconds = time_unit(end_s - begin_s)
    edges = np.linspace(begin_s, end_s, _BINS + 1)
    evicted = [np.diff(evicted_blocks(run).at(edges)) / (edges[1] - edges[0]) for run in runs.values()]
    num_panels = 2 if any(rates.any() for rates in evicted) else 1
    figure, panels = rows_of_series(list(runs), num_panels, f"time, {unit}")
    for index, run in enumerate(runs.values()):
        prompt, cached = (np.diff(steps.at(edges)) for steps in prefix_cache_hits(run))
        hit_rate = np.divide(100 * cached, prompt, out=np.full(_BINS, np.nan), where=prompt > 0)
        hits, *evictions = panels[num_panels * index : num_panels * (index + 1)]
        hits.stairs(hit_rate, edges / seconds, baseline=None, color=line(0)["color"])
        hits.set(ylabel="prompt tokens\ncached, %", ylim=(0, 100), xlim=(begin_s / seconds, end_s / seconds))
        for axes in evictions:
            axes.stairs(evicted[index], edges / seconds, color=line(0)["color"], fill=True)
            axes.set_ylabel("KV blocks\nevicted/s")
            axes.yaxis.set_major_formatter("{x:,.0f}")
    if num_panels == 1:
        panels[0].set_title("no block was evicted", loc="right")
    return figure
