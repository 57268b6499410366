"""Pipeline stages and bubbles over time."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from simulator.plot.batches import neighbours, replica_suffix, typical_iteration
from simulator.results import Result
from traces.shared.figure_style import DECODE, IDLE, PROMPT, PROMPT_HATCH, grid, styled

_BATCHES_SHOWN = 24
# Batches shorter than 1 / _MAX_NUMBERS of the window have no room for their number.
_MAX_NUMBERS = 30
_BAR_HEIGHT = 0.72


@styled
def pipeline_timeline(result: Result, replica: int = 0) -> Figure:
    """Draw when each stage computes which batch; gaps are bubbles.

    The batches are those in the middle of the run.

    Args:
        result: A run of the command line, or of `simulate(..., log_stages=True)`.
        replica: Index of the replica.

    Raises:
        ValueError: Stage times were not logged.
    """
    replica_result = result.replicas[replica]
    spans = replica_result.stage_spans
    if spans is None:
        raise ValueError("stage times were not logged: simulate with log_stages=True")
    num_stages = replica_result.placement.pp
    figure, (axes,) = grid(1, 1, height=1.3 + 0.5 * num_stages)
    middle = spans[neighbours(typical_iteration(replica_result), len(spans), _BATCHES_SHOWN)]
    begin_s, end_s = middle[:, :, 0].min(initial=np.inf), middle[:, :, 1].max(initial=0.0)
    # Every batch in the window, including those that begin before it or end after it.
    shown = np.flatnonzero((spans[:, -1, 1] > begin_s) & (spans[:, 0, 0] < end_s))
    inside, has_prompt = spans[shown].clip(begin_s, end_s), replica_result.logged.columns["num_prefills"][shown] > 0
    for stage in range(num_stages):
        row = num_stages - 1 - stage
        axes.barh(row, end_s - begin_s, _BAR_HEIGHT, left=begin_s, color=IDLE, linewidth=0)
        _draw_batches(axes, row, inside[:, stage], has_prompt)
        _draw_numbers(axes, row, inside[:, stage], has_prompt, shown, (end_s - begin_s) / _MAX_NUMBERS)
    axes.set_yticks(range(num_stages), [f"stage {stage}" for stage in reversed(range(num_stages))])
    axes.set(xlabel="time, s", xlim=(begin_s, end_s) if len(shown) else (0, 1))
    axes.grid(visible=False)
    busy = (inside[:, :, 1] - inside[:, :, 0]).sum() / max((end_s - begin_s) * num_stages, 1e-12)
    hatched: Any = {"facecolor": PROMPT, "hatch": PROMPT_HATCH, "edgecolor": "white"}
    handles = [
        Patch(label="batch with prompt tokens (number: iteration)", **hatched),
        Patch(facecolor=DECODE, label="decodes only"),
        Patch(facecolor=IDLE, label=f"not computing ({1 - busy:.0%} of this window)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    axes.set_title(f"middle of the run{replica_suffix(result, replica)}", loc="left")
    return figure


def _draw_batches(axes: Axes, row: int, spans: NDArray[np.float64], has_prompt: NDArray[np.bool_]) -> None:
    for prompt, colour, hatch in ((False, DECODE, ""), (True, PROMPT, PROMPT_HATCH)):
        start_s, until_s = spans[has_prompt == prompt].T
        style: Any = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.6}
        axes.barh(row, until_s - start_s, _BAR_HEIGHT, left=start_s, **style)


def _draw_numbers(
    axes: Axes,
    row: int,
    spans: NDArray[np.float64],
    has_prompt: NDArray[np.bool_],
    iterations: NDArray[np.int64],
    min_length_s: float,
) -> None:
    """Write the number of each batch that is long enough for it."""
    for iteration, (start_s, until_s), prompt in zip(iterations, spans, has_prompt, strict=True):
        if until_s - start_s > min_length_s:
            box = {"facecolor": PROMPT, "edgecolor": "none", "pad": 1} if prompt else None
            colour = "black" if prompt else "white"
            position = (start_s + until_s) / 2, row
            axes.text(*position, str(iteration), color=colour, bbox=box, ha="center", va="center", fontsize=7)
