"""Warnings of a run: reasons to doubt its figures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from simulator.log import NO_REPLICA
from simulator.results.status import STUCK

if TYPE_CHECKING:
    from simulator.results.result import Result

Kind = Literal[
    "overloaded",
    "stuck",
    "lost",
    "unfinished",
    "early_turns",
    "unsent_turns",
    "not_arrived",
    "nothing_measured",
    "ignored",
    "input",
    "iteration_time",
    "slo",
]


@dataclass(frozen=True)
class Warning:
    """A reason to doubt the figures of a run.

    Attributes:
        kind: Category, for code to test; "input" concerns the trace and the deployment as given.
        text: Message to the user, one or two sentences.
    """

    kind: Kind
    text: str


def run_warnings(result: "Result") -> list[Warning]:
    """Return the warnings of a run."""
    count, warnings = result.num_by_status, list[Warning]()
    if result.overloaded:
        text = "overloaded: the queue was still growing when the last request arrived"
        warnings.append(Warning("overloaded", text))
    if count["num_stuck"]:
        stuck_reasons = [replica.stuck_reason for replica in result.replicas if replica.stuck_reason]
        if (result.requests["replica"][result.status == STUCK] == NO_REPLICA).any():
            stuck_reasons.append("No replica came back for requests that a failure left without one.")
        text = f"{count['num_stuck']} requests are stuck forever. {' '.join(stuck_reasons)}".rstrip()
        warnings.append(Warning("stuck", text))
    if count["num_lost"]:
        text = f"{count['num_lost']} requests were lost: a replica failed, and they were not sent again"
        warnings.append(Warning("lost", text))
    if count["num_unfinished"]:
        text = f"{count['num_unfinished']} requests were unfinished at the time limit"
        warnings.append(Warning("unfinished", text))
    warnings += _about_sessions(result)
    num_late = count["num_not_arrived"] - result.num_broken_off
    if num_late:
        # A request that waits for another one has no arrival time yet.
        waited = ", or waited for one that did not end" if np.isnan(result.requests["arrival_s"]).any() else ""
        text = f"{num_late} requests would have arrived after the time limit{waited}"
        warnings.append(Warning("not_arrived", text))
    if not result.counted.any():
        text = "no request is left to measure: all arrive in the warm-up or after the time limit"
        warnings.append(Warning("nothing_measured", text))
    if count["num_ignored"]:
        text = f"{count['num_ignored']} requests were ignored: longer than the engine admits"
        warnings.append(Warning("ignored", text))
    warnings += [Warning("input", note) for note in result.notes]
    warnings += [Warning("iteration_time", text) for text in result.iteration_time[1]]
    return warnings


def _about_sessions(result: "Result") -> list[Warning]:
    warnings = []
    num_early = _num_early_turns(result)
    if num_early:
        early = f"{num_early} turns arrived before the previous turn of their session was answered"
        text = f"{early}; arrival=sessions or closed_loop makes them wait"
        warnings.append(Warning("early_turns", text))
    if result.num_broken_off:
        text = f"{result.num_broken_off} turns were not sent: an earlier turn of their session was ignored or lost"
        warnings.append(Warning("unsent_turns", text))
    return warnings


def _num_early_turns(result: "Result") -> int:
    table = result.requests
    if "session" not in table:
        return 0
    order = np.argsort(table["session"], kind="stable")
    session, arrival_s, completed_s = (table[name][order] for name in ("session", "arrival_s", "completed_s"))
    later = (session[1:] == session[:-1]) & (session[1:] >= 0) & ~np.isnan(arrival_s[1:])
    return int(np.count_nonzero(later & ~(arrival_s[1:] >= completed_s[:-1])))
