"""What a user should know before trusting the figures of a run."""

from typing import TYPE_CHECKING

import numpy as np

from simulator.log import NO_REPLICA
from simulator.results.status import STUCK

if TYPE_CHECKING:
    from simulator.results.result import Result


def run_warnings(result: "Result") -> list[str]:
    """Return a sentence for each."""
    count, found = result.num_by_status, []
    if result.overloaded:
        found.append("overloaded: the queue was still growing when the last request arrived")
    if count["num_stuck"]:
        stuck_reasons = [replica.stuck_reason for replica in result.replicas if replica.stuck_reason]
        if (result.requests["replica"][result.status == STUCK] == NO_REPLICA).any():
            stuck_reasons.append("No replica came back for those that a failure left without one.")
        found.append(f"{count['num_stuck']} requests are stuck for ever. {' '.join(stuck_reasons)}".rstrip())
    if count["num_lost"]:
        found.append(f"{count['num_lost']} requests were lost: a replica failed, and they were not sent again")
    if count["num_unfinished"]:
        found.append(f"{count['num_unfinished']} requests were unfinished at the time limit")
    found += _about_sessions(result)
    num_late = count["num_not_arrived"] - result.num_broken_off
    if num_late:
        # Those that wait have no arrival time before their time has come.
        waited = ", or waited for one that did not end" if np.isnan(result.requests["arrival_s"]).any() else ""
        found.append(f"{num_late} requests would have arrived after the time limit{waited}")
    if not result.counted.any():
        found.append("no request is left to measure: all arrive in the warm-up or after the time limit")
    if count["num_ignored"]:
        found.append(f"{count['num_ignored']} requests were ignored: longer than the engine admits")
    return [*found, *result.notes, *result.iteration_time[1]]


def _about_sessions(result: "Result") -> list[str]:
    found = []
    num_early = _num_early_turns(result)
    if num_early:
        early = f"{num_early} turns of sessions arrived before the answer to the turn before them"
        found.append(f"{early}; arrival=sessions or closed_loop lets them wait")
    if result.num_broken_off:
        found.append(
            f"{result.num_broken_off} turns were not sent: one before them in their session was ignored or lost"
        )
    return found


def _num_early_turns(result: "Result") -> int:
    table = result.requests
    if "session" not in table:
        return 0
    order = np.argsort(table["session"], kind="stable")
    session, arrival_s, completed_s = (table[name][order] for name in ("session", "arrival_s", "completed_s"))
    later = (session[1:] == session[:-1]) & (session[1:] >= 0) & ~np.isnan(arrival_s[1:])
    return int(np.count_nonzero(later & ~(arrival_s[1:] >= completed_s[:-1])))
