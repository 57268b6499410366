"""Batch composition over time."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from simulator.results import ReplicaResult, Result, time_span
from traces.shared.figure_style import DECODE, PROMPT, grid, styled, time_unit

_BINS = 200
_ITERATIONS_SHOWN = 40


@styled
def batch_composition(result: Result, replica: int = 0) -> Figure:
    """Draw the prompt tokens and decodes per iteration.

    Each has one panel over the whole run and one over a few consecutive iterations.

    Args:
        result: The run.
        replica: Index of the replica.
    """
    figure, panels = grid(2, 2, height=2.0)
    replica_result = result.replicas[replica]
    parts = (("num_prefill_tokens", "prompt tokens", PROMPT), ("num_decodes", "decodes", DECODE))
    begin_s, end_s = time_span([result])
    for (run_axes, window_axes), (column, label, colour) in zip((panels[:2], panels[2:]), parts, strict=True):
        style = {"facecolor": colour, "edgecolor": "white"}
        _draw_run(run_axes, replica_result, column, style, (begin_s, end_s))
        _draw_window(window_axes, replica_result, column, style)
        for axes in (run_axes, window_axes):
            axes.set_ylabel(label)
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_formatter("{x:,.0f}")
    shown = _window(replica_result)
    if len(shown):
        panels[1].set_title(f"iterations {shown[0]:,} to {shown[-1]:,}", loc="left")
    panels[0].set_title(f"whole run{replica_suffix(result, replica)}, means of {_BINS} intervals", loc="left")
    return figure


def replica_suffix(result: Result, replica: int) -> str:
    """Return the end of a title that names one of several replicas."""
    device = result.replicas[replica].placement.device
    return f" of replica {replica} of {len(result.replicas)} ({device})" if len(result.replicas) > 1 else ""


def typical_iteration(replica: ReplicaResult) -> int:
    """Return the middle iteration with both prompt tokens and decodes.

    If there is none, the middle one with prompt tokens, else with decodes.
    """
    columns = replica.logged.columns
    prompts, decodes = columns["num_prefills"] > 0, columns["num_decodes"] > 0
    for mask in (prompts & decodes, prompts, decodes):
        iterations = np.flatnonzero(mask)
        if len(iterations):
            return int(iterations[len(iterations) // 2])
    return 0


def _draw_run(
    axes: Axes, replica: ReplicaResult, column: str, style: dict[str, Any], span_s: tuple[float, float]
) -> None:
    """Draw the mean over the iterations that end in each interval."""
    end_s = replica.logged.end_s
    unit, seconds = time_unit(span_s[1] - span_s[0])
    edges = np.linspace(*span_s, _BINS + 1)
    bins = np.clip(np.searchsorted(edges, end_s, side="left") - 1, 0, _BINS - 1)
    sums = np.bincount(bins, weights=replica.logged.columns[column], minlength=_BINS)
    means = sums / np.maximum(np.bincount(bins, minlength=_BINS), 1)
    axes.stairs(means, edges / seconds, fill=True, linewidth=0, **style)
    axes.set(xlabel=f"time, {unit}", xlim=(edges[0] / seconds, edges[-1] / seconds))


def _draw_window(axes: Axes, replica: ReplicaResult, column: str, style: dict[str, Any]) -> None:
    """Draw iterations as bars, with the column as height.

    Their width is the duration; in a pipeline, that of the first stage.
    """
    columns, end_s = replica.logged.columns, replica.logged.end_s
    shown = _window(replica)
    start_s, heights = columns["start_s"][shown], columns[column][shown]
    spans = replica.stage_spans
    until_s = end_s[shown] if spans is None else spans[shown, 0, 1]
    axes.bar(start_s, heights, until_s - start_s, align="edge", linewidth=0.5, **style)
    axes.set_xlabel("time, s")
    axes.margins(x=0)


def _window(replica: ReplicaResult) -> NDArray[np.int64]:
    """Return the consecutive iterations that are drawn one by one."""
    return neighbours(typical_iteration(replica), len(replica.logged.end_s), _ITERATIONS_SHOWN)


def neighbours(middle: int, size: int, count: int) -> NDArray[np.int64]:
    """Return the indices of `count` neighbours around index `middle` of `size`."""
    first = max(0, min(middle - count // 2, size - count))
    return np.arange(first, min(size, first + count))
