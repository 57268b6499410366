"""KV cache usage and queue length over time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulator.results import Result, Steps, kv_use, queue_length, time_span
from traces.shared.figure_style import grid, legible, line, styled, time_unit

_BINS = 400


@styled
def kv_and_queue(runs: Mapping[str, Result]) -> Figure:
    """Draw KV block use and queue length over time.

    Lines are exact means over short intervals; shading reaches to the maximum in each.

    Args:
        runs: Runs by name.
    """
    figure, (memory, queue) = grid(2, 1, width=8.0, height=2.2)
    begin_s, end_s = time_span(runs.values())
    unit, seconds = time_unit(end_s - begin_s)
    edges = np.linspace(begin_s, end_s, _BINS + 1)
    for index, (name, run) in enumerate(runs.items()):
        use, waiting = kv_use(run), queue_length(run)
        _draw(memory, Steps(use.time_s, 100 * use.value), edges, seconds, index, name)
        _draw(queue, waiting, edges, seconds, index, name)
    memory.set(ylabel="KV blocks in use, %", xlim=(begin_s / seconds, end_s / seconds))
    queue.set(ylabel="requests waiting", xlabel=f"time, {unit}", xlim=(begin_s / seconds, end_s / seconds))
    memory.set_title("line: mean of short intervals; shaded: up to their maximum", loc="left", fontsize=8)
    for axes in (memory, queue):
        axes.set_ylim(bottom=0)
    if len(runs) > 1:
        figure.legend(*memory.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(runs)))
    return figure


def _draw(axes: Axes, steps: Steps, edges: NDArray[np.float64], seconds: float, index: int, name: str) -> None:
    mean, largest = steps.mean(edges), steps.largest(edges)
    style = line(index)
    middle = (edges[:-1] + edges[1:]) / 2 / seconds
    axes.fill_between(middle, mean, largest, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(middle, mean, label=legible(name), **{**style, "linewidth": 1.1})
