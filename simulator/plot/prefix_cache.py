"""Prefix cache hits and evictions over time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from simulator.results import Result, evicted_blocks, prefix_cache_hits, time_span
from traces.shared.figure_style import label_time, line, rows_of_series, styled, time_unit

_BINS = 60


@styled
def prefix_cache(runs: Mapping[str, Result]) -> Figure:
    """Draw prefix cache hits and evicted KV blocks over time, a row for each of several runs.

    The hit rate is the share of prompt tokens found in the prefix cache. In an interval, it counts the requests first
    admitted in it; it has a gap where there are none.

    Args:
        runs: Runs by name.
    """
    figure, rows = rows_of_series(list(runs))
    begin_s, end_s = time_span(runs.values())
    unit, seconds = time_unit(end_s - begin_s)
    edges = np.linspace(begin_s, end_s, _BINS + 1)
    span_s = edges[1] - edges[0]
    for (hits, evictions), run in zip(rows, runs.values(), strict=True):
        prompt, cached = (np.diff(steps.at(edges)) for steps in prefix_cache_hits(run))
        hit_rate = np.divide(100 * cached, prompt, out=np.full(_BINS, np.nan), where=prompt > 0)
        evicted = np.diff(evicted_blocks(run).at(edges)) / span_s
        for axes, values in ((hits, hit_rate), (evictions, evicted)):
            axes.stairs(values, edges / seconds, baseline=None, color=line(0)["color"])
        hits.set(ylabel="prompt tokens cached, %", ylim=(0, 100), xlim=(begin_s / seconds, end_s / seconds))
        evictions.set_ylabel("KV blocks evicted/s")
        if not evicted.any():
            evictions.text(0.5, 0.5, "no block was evicted", transform=evictions.transAxes, ha="center")
        evictions.set_ylim(0, max(1.0, evictions.get_ylim()[1]))
    label_time(rows, f"time, {unit}")
    return figure
