"""Generation stalls: output tokens over time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulator.over_time import Steps, output_tokens, stalls, time_span
from simulator.result import Result
from simulator.units import duration
from traces.figure_style import GREY, grid, legible, line, styled, time_unit

_POINTS = 1500
# The second panel shows so many times the longest stall.
_STALLS_SHOWN = 8
_LEAST_WINDOW_S = 2.0


def longest_stall(result: Result) -> tuple[float, float]:
    """Return when the longest time began in which no decode of a replica got a token, and its length, seconds."""
    found = [stalls(replica) for replica in result.replicas]
    begins, lengths = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(lengths) == 0:
        return 0.0, 0.0
    place = int(lengths.argmax())
    return float(begins[place]), float(lengths[place])


@styled
def generation_stalls(runs: Mapping[str, Result]) -> Figure:
    """Draw output tokens over the whole run and around the longest stall of all runs, like figure 1a of the paper.

    Args:
        runs: Runs by name, best of the same trace.
    """
    figure, (whole, close) = grid(1, 2, width=5.4, height=3.4)
    stall_of = {name: longest_stall(run) for name, run in runs.items()}
    worst = max(stall_of, key=lambda name: stall_of[name][1])
    begin_s, length_s = stall_of[worst]
    window_s = max(_STALLS_SHOWN * length_s, _LEAST_WINDOW_S)
    from_s = max(0.0, begin_s - (window_s - length_s) / 2)
    first_s, end_s = time_span(runs.values())
    unit, seconds = time_unit(end_s - first_s)
    for place, (name, run) in enumerate(runs.items()):
        tokens = output_tokens(run)
        label = f"{legible(name)}, longest stall {duration(stall_of[name][1])}"
        count = len(tokens.time_s)
        shown = np.unique(np.linspace(0, max(0, count - 1), _POINTS).astype(int))[:count]
        whole.step(tokens.time_s[shown] / seconds, tokens.value[shown], where="post", label=label, **line(place))
        until_s = min(run.end_s, from_s + window_s)
        if until_s > from_s:
            close.step(*_since(tokens, from_s, until_s), where="post", **line(place))
    close.axvspan(begin_s, begin_s + length_s, color=GREY, alpha=0.18, linewidth=0)
    close.set_title(f"around the longest stall, {duration(length_s)} ({legible(worst)})", loc="left")
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
