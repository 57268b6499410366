"""Pipeline stages over time, with their bubbles."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from simulator.plot.batches import around, replica_title, typical_iteration
from simulator.results import Result
from traces.shared.figure_style import DECODE, IDLE, PROMPT, PROMPT_HATCH, grid, styled

_BATCHES_SHOWN = 24
_FEW = 30
_BAR = 0.72


@styled
def pipeline_timeline(result: Result, replica: int = 0) -> Figure:
    """Draw when each stage computes which batch, some batches in the middle of the run; gaps are bubbles.

    Args:
        result: The run; `simulate(..., log_stages=True)`, as runs of the command line are.
        replica: Number of the replica.

    Raises:
        ValueError: It was not logged when the stages compute.
    """
    one = result.replicas[replica]
    spans = one.stage_spans
    if spans is None:
        raise ValueError("it was not logged when the stages compute: simulate with log_stages=True")
    num_stages = one.placement.pp
    figure, (axes,) = grid(1, 1, width=9.0, height=1.3 + 0.5 * num_stages)
    middle = spans[around(typical_iteration(one), len(spans), _BATCHES_SHOWN)]
    begin_s, end_s = middle[:, :, 0].min(initial=np.inf), middle[:, :, 1].max(initial=0.0)
    # All that is computed meanwhile, also by batches that began before or end after it.
    shown = np.flatnonzero((spans[:, -1, 1] > begin_s) & (spans[:, 0, 0] < end_s))
    inside, prompts = spans[shown].clip(begin_s, end_s), one.logged.columns["num_prefills"][shown] > 0
    for stage in range(num_stages):
        row = num_stages - 1 - stage
        axes.barh(row, end_s - begin_s, _BAR, left=begin_s, color=IDLE, linewidth=0)
        _computing(axes, row, inside[:, stage], prompts)
        _numbers(axes, row, inside[:, stage], prompts, shown, (end_s - begin_s) / _FEW)
    axes.set_yticks(range(num_stages), [f"stage {stage}" for stage in reversed(range(num_stages))])
    axes.set(xlabel="time, s", xlim=(begin_s, end_s) if len(shown) else (0, 1))
    axes.grid(visible=False)
    busy = (inside[:, :, 1] - inside[:, :, 0]).sum() / max((end_s - begin_s) * num_stages, 1e-12)
    handles = [
        Patch(facecolor=PROMPT, hatch=PROMPT_HATCH, edgecolor="white", label="batch with prompt tokens (its number)"),
        Patch(facecolor=DECODE, label="decodes alone"),
        Patch(facecolor=IDLE, label=f"not computing ({1 - busy:.0%} of this window)"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    if len(result.replicas) > 1:
        axes.set_title(replica_title(result, replica), loc="left")
    return figure


def _computing(axes: Axes, row: int, spans: NDArray[np.float64], prompts: NDArray[np.bool_]) -> None:
    for has_prompt, colour, hatch in ((False, DECODE, ""), (True, PROMPT, PROMPT_HATCH)):
        start_s, until_s = spans[prompts == has_prompt].T
        look: Any = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.6}
        axes.barh(row, until_s - start_s, _BAR, left=start_s, **look)


def _numbers(
    axes: Axes,
    row: int,
    spans: NDArray[np.float64],
    prompts: NDArray[np.bool_],
    iterations: NDArray[np.int64],
    least_s: float,
) -> None:
    """Number the batches that are long enough for it."""
    for iteration, (start_s, until_s), has_prompt in zip(iterations, spans, prompts, strict=True):
        if until_s - start_s > least_s:
            box = {"facecolor": PROMPT, "edgecolor": "none", "pad": 1} if has_prompt else None
            colour = "black" if has_prompt else "white"
            place = (start_s + until_s) / 2, row
            axes.text(*place, str(iteration), color=colour, bbox=box, ha="center", va="center", fontsize=7)
