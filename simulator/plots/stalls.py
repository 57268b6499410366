"""Generation stalls: output tokens over time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from simulator.over_time import output_tokens, stalls
from simulator.result import Result
from traces.figure_style import GREY, grid, line, styled, time_unit

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
    unit, seconds = time_unit(max(run.end_s for run in runs.values()))
    for place, (name, run) in enumerate(runs.items()):
        tokens = output_tokens(run)
        shown = np.unique(np.linspace(0, len(tokens.time_s) - 1, _POINTS).astype(int))
        label = f"{name}, longest stall {stall_of[name][1]:.3g} s"
        whole.step(tokens.time_s[shown] / seconds, tokens.value[shown], where="post", label=label, **line(place))
        inside = slice(*np.searchsorted(tokens.time_s, [from_s, from_s + window_s]))
        before = tokens.value[inside.start - 1] if inside.start else 0.0
        time_s = np.concatenate([[from_s], tokens.time_s[inside], [from_s + window_s]])
        value = np.concatenate([[0.0], tokens.value[inside] - before])
        close.step(time_s, np.append(value, value[-1]), where="post", **line(place))
    close.axvspan(begin_s, begin_s + length_s, color=GREY, alpha=0.18, linewidth=0)
    close.set_title(f"around the longest stall, {length_s:.3g} s ({worst})", loc="left")
    whole.set(xlabel=f"time, {unit}", ylabel="output tokens", title="")
    close.set(xlabel="time, s", ylabel=f"output tokens since {from_s:,.1f} s", xlim=(from_s, from_s + window_s))
    whole.legend()
    return figure
