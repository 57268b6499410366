"""What batches are made of, over time."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulator.results import ReplicaResult, Result, time_span
from traces.shared.figure_style import DECODE, PROMPT, PROMPT_HATCH, grid, styled, time_unit

_BINS = 200
_ITERATIONS_SHOWN = 40


@styled
def batch_composition(result: Result, replica: int = 0) -> Figure:
    """Draw the prompt tokens and decodes per iteration: over the run, and some iterations one by one.

    Args:
        result: The run.
        replica: Number of the replica.
    """
    figure, panels = grid(2, 2, width=5.2, height=2.1)
    one = result.replicas[replica]
    parts = (("num_prefill_tokens", "prompt tokens", PROMPT, PROMPT_HATCH), ("num_decodes", "decodes", DECODE, ""))
    begin_s, end_s = time_span([result])
    for (whole, close), (name, label, colour, hatch) in zip((panels[:2], panels[2:]), parts, strict=True):
        look = {"facecolor": colour, "hatch": hatch, "edgecolor": "white"}
        _whole(whole, one, name, look, (begin_s, end_s))
        _close(close, one, name, look)
        whole.set_ylabel(f"{label} / iteration")
        close.set_ylabel(f"{label}")
    if len(result.replicas) > 1:
        figure.suptitle(replica_title(result, replica))
    return figure


def replica_title(result: Result, replica: int) -> str:
    """Say which of several replicas a picture is about."""
    return f"replica {replica} of {len(result.replicas)} ({result.replicas[replica].placement.device})"


def typical_iteration(replica: ReplicaResult) -> int:
    """Return an iteration in the middle of those with prompt tokens and decodes, else of those with either."""
    columns = replica.logged.columns
    prompts, decodes = columns["num_prefills"] > 0, columns["num_decodes"] > 0
    for wanted in (prompts & decodes, prompts, decodes):
        found = np.flatnonzero(wanted)
        if len(found):
            return int(found[len(found) // 2])
    return 0


def _whole(axes: Axes, replica: ReplicaResult, name: str, look: dict[str, Any], span_s: tuple[float, float]) -> None:
    """The mean over the iterations that end in each of many intervals."""
    end_s = replica.logged.end_s
    unit, seconds = time_unit(span_s[1] - span_s[0])
    edges = np.linspace(*span_s, _BINS + 1)
    place = np.clip(np.searchsorted(edges, end_s, side="left") - 1, 0, _BINS - 1)
    sums = np.bincount(place, weights=replica.logged.columns[name], minlength=_BINS)
    means = sums / np.maximum(np.bincount(place, minlength=_BINS), 1)
    axes.stairs(means, edges / seconds, fill=True, linewidth=0, **look)
    axes.set(xlabel=f"time, {unit} (means)", xlim=(edges[0] / seconds, edges[-1] / seconds))


def _close(axes: Axes, replica: ReplicaResult, name: str, look: dict[str, Any]) -> None:
    """Iterations as bars: as wide as they are long (in a pipeline, in its first stage), as high as they have tokens."""
    columns, end_s = replica.logged.columns, replica.logged.end_s
    shown = around(typical_iteration(replica), len(end_s), _ITERATIONS_SHOWN)
    start_s, heights = columns["start_s"][shown], columns[name][shown]
    spans = replica.stage_spans
    until_s = end_s[shown] if spans is None else spans[shown, 0, 1]
    axes.bar(start_s, heights, until_s - start_s, align="edge", linewidth=0.5, **look)
    axes.set_xlabel(f"time, s (iterations {shown[0]:,} to {shown[-1]:,})" if len(shown) else "time, s")
    axes.margins(x=0)


def around(middle: int, size: int, count: int) -> NDArray[np.int64]:
    """Return the places of `count` neighbours around one of `size`."""
    first = max(0, min(middle - count // 2, size - count))
    return np.arange(first, min(size, first + count))
