"""Prefix cache over time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from simulator.results import Result, evicted_blocks, found_tokens, time_span
from traces.shared.figure_style import grid, legible, line, styled, time_unit

_BINS = 60


@styled
def prefix_cache(runs: Mapping[str, Result]) -> Figure:
    """Draw the share of prompt tokens that were found in the prefix cache, and the KV blocks that were evicted.

    Both are of intervals: of the requests that were admitted in each, preempted ones left out; a gap: none was.

    Args:
        runs: Runs by name.
    """
    figure, (hits, evictions) = grid(2, 1, width=8.0, height=2.2)
    begin_s, end_s = time_span(runs.values())
    unit, seconds = time_unit(end_s - begin_s)
    edges = np.linspace(begin_s, end_s, _BINS + 1)
    span_s = edges[1] - edges[0]
    for place, (name, run) in enumerate(runs.items()):
        known, found = (np.diff(one.at(edges)) for one in found_tokens(run))
        share = np.divide(100 * found, known, out=np.full(_BINS, np.nan), where=known > 0)
        evicted = np.diff(evicted_blocks(run).at(edges)) / span_s
        for axes, values in ((hits, share), (evictions, evicted)):
            axes.stairs(values, edges / seconds, baseline=None, label=legible(name), **line(place))
    hits.set(ylabel="prompt tokens found, %", ylim=(0, 100))
    evictions.set(ylabel="blocks evicted per s", xlabel=f"time, {unit}")
    for axes in (hits, evictions):
        axes.set_xlim(begin_s / seconds, end_s / seconds)
    evictions.set_ylim(0, max(1.0, evictions.get_ylim()[1]))
    if len(runs) > 1:
        figure.legend(*hits.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(runs)))
    return figure
