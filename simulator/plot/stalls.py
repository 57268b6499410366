"""Generation stalls: output tokens over time."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulator.results import Result, Steps, duration, output_tokens, stalls, time_span
from traces.shared.figure_style import GREY, grid, legible, line, styled, time_unit

_POINTS = 1500
# The second panel shows so many times the longest stall.
_STALLS_SHOWN = 8
_LEAST_WINDOW_S = 2.0


@dataclass(frozen=True)
class Stall:
    """A time in which no decode of a replica got a token although a request at least waited for its next one.

    Attributes:
        replica: Number of the replica.
        begin_s: When it began.
        length_s: How long it took; 0: there was none.
    """

    replica: int = 0
    begin_s: float = 0.0
    length_s: float = 0.0


def longest_stall(result: Result) -> Stall:
    """Return the longest one of all replicas."""
    worst = Stall()
    for number in range(len(result.replicas)):
        begins, lengths = stalls(result, number)
        if len(lengths) and lengths.max() > worst.length_s:
            place = int(lengths.argmax())
            worst = Stall(number, float(begins[place]), float(lengths[place]))
    return worst


@styled
def generation_stalls(runs: Mapping[str, Result]) -> Figure:
    """Draw output tokens over the whole run and around the longest stall of all runs, like figure 1a of the paper.

    Around the stall, of a run with several replicas only the tokens of the replica that stalled are drawn.

    Args:
        runs: Runs by name, best of the same trace.
    """
    figure, (whole, close) = grid(1, 2, width=5.4, height=3.4)
    stall_of = {name: longest_stall(run) for name, run in runs.items()}
    worst = max(stall_of, key=lambda name: stall_of[name].length_s)
    begin_s, length_s = stall_of[worst].begin_s, stall_of[worst].length_s
    window_s = max(_STALLS_SHOWN * length_s, _LEAST_WINDOW_S)
    from_s = max(0.0, begin_s - (window_s - length_s) / 2)
    first_s, end_s = time_span(runs.values())
    unit, seconds = time_unit(end_s - first_s)
    for place, (name, run) in enumerate(runs.items()):
        tokens = output_tokens(run)
        label = f"{legible(name)}, longest stall {duration(stall_of[name].length_s)}"
        count = len(tokens.time_s)
        shown = np.unique(np.linspace(0, max(0, count - 1), _POINTS).astype(int))[:count]
        whole.step(tokens.time_s[shown] / seconds, tokens.value[shown], where="post", label=label, **line(place))
        until_s = min(run.end_s, from_s + window_s)
        several = len(run.replicas) > 1
        if until_s > from_s and (name == worst or not several):
            seen = output_tokens(run, [stall_of[name].replica]) if several else tokens
            close.step(*_since(seen, from_s, until_s), where="post", **line(place))
    close.axvspan(begin_s, begin_s + length_s, color=GREY, alpha=0.18, linewidth=0)
    whose = f", replica {stall_of[worst].replica}" if len(runs[worst].replicas) > 1 else ""
    close.set_title(f"around the longest stall, {duration(length_s)} ({legible(worst)}{whose})", loc="left")
    for axes in (whole, close):
        axes.yaxis.set_major_formatter("{x:,.0f}")
    whole.set(xlabel=f"time, {unit}", ylabel="output tokens", xlim=(first_s / seconds, end_s / seconds))
    close.set(xlabel="time, s", ylabel=f"output tokens since {from_s:,.1f} s", xlim=(from_s, from_s + window_s))
    whole.legend()
    return figure


def _since(tokens: Steps, from_s: float, until_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times, and tokens emitted from the first of them on."""
    begin, end = np.searchsorted(tokens.time_s, [from_s, until_s])
    before = tokens.value[begin - 1] if begin else 0.0
    value = np.concatenate([[0.0], tokens.value[begin:end] - before])
    time_s = np.concatenate([[from_s], tokens.time_s[begin:end], [until_s]])
    return time_s, np.append(value, value[-1])
