"""Generation stalls: output tokens over time."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulator.results import Result, Steps, duration, output_tokens, stalls, time_span
from traces.shared.figure_style import GREY, grid, legible, line, styled, time_unit

_POINTS = 1500
# Length of the second panel, as a multiple of the longest stall.
_STALLS_SHOWN = 8
_LEAST_WINDOW_S = 2.0


@dataclass(frozen=True)
class Stall:
    """A generation stall of a replica.

    During a stall, no decode of the replica got a token although at least one request waited for its next token.

    Attributes:
        replica: Index of the replica.
        begin_s: Start of the stall, seconds.
        length_s: Duration, seconds; 0: there was no stall.
    """

    replica: int = 0
    begin_s: float = 0.0
    length_s: float = 0.0


def longest_stall(result: Result) -> Stall:
    """Return the longest stall of all replicas."""
    longest = Stall()
    for replica in range(len(result.replicas)):
        begins, lengths = stalls(result, replica)
        if len(lengths) and lengths.max() > longest.length_s:
            index = int(lengths.argmax())
            longest = Stall(replica, float(begins[index]), float(lengths[index]))
    return longest


@styled
def generation_stalls(runs: Mapping[str, Result]) -> Figure:
    """Draw output tokens over the run and around the longest stall.

    This is the longest stall of all runs. Around it, a run with several replicas shows only the tokens of the replica
    that stalled.

    Args:
        runs: Runs by name, ideally of the same trace.

    Source: figure 1a of Sarathi-Serve (arXiv:2403.02310).
    """
    figure, (run_axes, stall_axes) = grid(1, 2, height=2.9 + 0.18 * len(runs))
    longest = {name: longest_stall(run) for name, run in runs.items()}
    worst = max(longest, key=lambda name: longest[name].length_s)
    begin_s, length_s = longest[worst].begin_s, longest[worst].length_s
    window_s = max(_STALLS_SHOWN * length_s, _LEAST_WINDOW_S)
    from_s = max(0.0, begin_s - (window_s - length_s) / 2)
    first_s, end_s = time_span(runs.values())
    unit, seconds = time_unit(end_s - first_s)
    for index, (name, run) in enumerate(runs.items()):
        tokens = output_tokens(run)
        label = f"{legible(name)}, longest stall {duration(longest[name].length_s)}"
        num_steps = len(tokens.time_s)
        shown = np.unique(np.linspace(0, max(0, num_steps - 1), _POINTS).astype(int))[:num_steps]
        run_axes.step(tokens.time_s[shown] / seconds, tokens.value[shown], where="post", label=label, **line(index))
        until_s = min(run.end_s, from_s + window_s)
        several = len(run.replicas) > 1
        if until_s > from_s and (name == worst or not several):
            window_tokens = output_tokens(run, [longest[name].replica]) if several else tokens
            stall_axes.step(*_since(window_tokens, from_s, until_s), where="post", **line(index))
    replica = f", replica {longest[worst].replica}" if len(runs[worst].replicas) > 1 else ""
    label = f"the longest stall: {duration(length_s)}, {legible(worst)}{replica}"
    stall_axes.axvspan(begin_s, begin_s + length_s, color=GREY, alpha=0.18, linewidth=0, label=label)
    run_axes.set_title("whole run", loc="left")
    stall_axes.set_title("around the longest stall", loc="left")
    for axes in (run_axes, stall_axes):
        axes.yaxis.set_major_formatter("{x:,.0f}")
    run_axes.set(xlabel=f"time, {unit}", ylabel="output tokens", xlim=(first_s / seconds, end_s / seconds))
    stall_axes.set(xlabel="time, s", ylabel=f"output tokens since {from_s:,.1f} s", xlim=(from_s, from_s + window_s))
    handles = [*run_axes.get_legend_handles_labels()[0], *stall_axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower left", ncols=1 if len(runs) == 1 else 2)
    return figure


def _since(tokens: Steps, from_s: float, until_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the tokens emitted from `from_s` to `until_s`.

    Returns:
        Times, seconds, and the tokens emitted since `from_s` at each.
    """
    begin, end = np.searchsorted(tokens.time_s, [from_s, until_s])
    before = tokens.value[begin - 1] if begin else 0.0
    value = np.concatenate([[0.0], tokens.value[begin:end] - before])
    time_s = np.concatenate([[from_s], tokens.time_s[begin:end], [until_s]])
    return time_s, np.append(value, value[-1])
