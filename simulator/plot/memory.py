"""KV cache usage and queue length over time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from simulator.results import Result, Steps, duration, kv_use, queue_length, time_span
from traces.shared.figure_style import line, rows_of_series, styled, time_unit

_BINS = 400


@styled
def kv_and_queue(runs: Mapping[str, Result]) -> Figure:
    """Draw KV block use and queue length over time.

    Several runs have a row each.
    Lines are exact means over short intervals; shading reaches to the maximum in each.

    Args:
        runs: Runs by name.
    """
    begin_s, end_s = time_span(runs.values())
    unit, seconds = time_unit(end_s - begin_s)
    figure, panels = rows_of_series(list(runs), 2, f"time, {unit}")
    edges = np.linspace(begin_s, end_s, _BINS + 1)
    for memory, queue, run in zip(panels[::2], panels[1::2], runs.values(), strict=True):
        use = kv_use(run)
        _draw(memory, Steps(use.time_s, 100 * use.value), edges, seconds)
        _draw(queue, queue_length(run), edges, seconds)
        memory.set(ylabel="KV blocks used, %", xlim=(begin_s / seconds, end_s / seconds))
        queue.set_ylabel("requests waiting")
        queue.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in panels:
        axes.set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2)
    return figure


def _draw(axes: Axes, steps: Steps, edges: NDArray[np.float64], seconds: float) -> None:
    mean, largest = steps.mean(edges), steps.largest(edges)
    colour = line(0)["color"]
    middle = (edges[:-1] + edges[1:]) / 2 / seconds
    label = f"mean of intervals of {duration(edges[1] - edges[0])}"
    axes.plot(middle, mean, label=label, color=colour, linewidth=1.1)
    axes.fill_between(middle, mean, largest, color=colour, alpha=0.25, linewidth=0, label="maximum in each")
