"""Warnings of a run: reasons to doubt its figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.log import NO_REPLICA
from simulator.results.replica import ReplicaResult
from simulator.results.status import STUCK
from traces.shared.warnings import Warning

# The queue of an event loop that is busier than this grows long.
MOST_FRONT_END_BUSY = 0.8


class Run(Protocol):
    """The part of a `Result` that its warnings come from."""

    @property
    def requests(self) -> Mapping[str, NDArray[Any]]: ...  # noqa: D102
    @property
    def status(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def replicas(self) -> Sequence[ReplicaResult]: ...  # noqa: D102
    @property
    def notes(self) -> Sequence[Warning]: ...  # noqa: D102
    @property
    def num_broken_off(self) -> int: ...  # noqa: D102
    @property
    def num_by_status(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def end_s(self) -> float: ...  # noqa: D102
    @property
    def counted(self) -> NDArray[np.bool_]: ...  # noqa: D102
    @property
    def backlog(self) -> int: ...  # noqa: D102
    @property
    def iteration_time(self) -> tuple[Mapping[str, Any], Sequence[Warning]]: ...  # noqa: D102


def run_warnings(run: Run) -> list[Warning]:
    """Return the warnings of a run."""
    return [
        *_about_load(run),
        *_about_front_ends(run),
        *_about_sessions(run),
        *_about_measured_requests(run),
        *run.notes,
        *run.iteration_time[1],
    ]


def _about_load(run: Run) -> Iterator[Warning]:
    count = run.num_by_status
    if run.backlog:
        yield Warning(
            "overloaded",
            f"overloaded: requests arrived faster than they were served, and {run.backlog:,} waited when the last one "
            "arrived; latencies grow with the length of the run",
        )
    if count["num_stuck"]:
        reasons = [replica.stuck_reason for replica in run.replicas if replica.stuck_reason]
        if (run.requests["replica"][run.status == STUCK] == NO_REPLICA).any():
            reasons.append("No replica came back for requests that a failure left without one.")
        text = f"{count['num_stuck']} requests are stuck forever. {' '.join(reasons)}".rstrip()
        yield Warning("stuck", text)
    if count["num_lost"]:
        text = f"{count['num_lost']} requests were lost: a replica failed, and they were not sent again"
        yield Warning("lost", text)
    if count["num_unfinished"]:
        yield Warning("unfinished", f"{count['num_unfinished']} requests were unfinished at the time limit")


def _about_front_ends(run: Run) -> Iterator[Warning]:
    span_s = run.end_s - float(np.nanmin(run.requests["arrival_s"]))
    shares = [replica.front_end_busy_s / span_s for replica in run.replicas] if span_s > 0 else []
    if max(shares, default=0.0) > MOST_FRONT_END_BUSY:
        yield Warning(
            "front_end",
            f"a front end is busy for {max(shares):.0%} of the time, and its queue adds to TTFT; several API servers "
            "are not simulated",
        )


def _about_sessions(run: Run) -> Iterator[Warning]:
    num_early = _num_early_turns(run.requests)
    if num_early:
        early = f"{num_early} turns arrived before the previous turn of their session was answered"
        yield Warning("early_turns", f"{early}; arrival=sessions or closed_loop makes them wait")
    if run.num_broken_off:
        text = f"{run.num_broken_off} turns were not sent: an earlier turn of their session was ignored or lost"
        yield Warning("unsent_turns", text)


def _about_measured_requests(run: Run) -> Iterator[Warning]:
    count = run.num_by_status
    num_late = count["num_not_arrived"] - run.num_broken_off
    if num_late:
        # A request that waits for another one has no arrival time yet.
        waited = ", or waited for one that did not end" if np.isnan(run.requests["arrival_s"]).any() else ""
        yield Warning("not_arrived", f"{num_late} requests would have arrived after the time limit{waited}")
    if not run.counted.any():
        text = "no request is left to measure: all arrive in the warm-up or after the time limit"
        yield Warning("nothing_measured", text)
    if count["num_ignored"]:
        yield Warning("ignored", f"{count['num_ignored']} requests were ignored: longer than the engine admits")


def _num_early_turns(requests: Mapping[str, NDArray[Any]]) -> int:
    if "session" not in requests:
        return 0
    order = np.argsort(requests["session"], kind="stable")
    session, arrival_s, completed_s = (requests[name][order] for name in ("session", "arrival_s", "completed_s"))
    later = (session[1:] == session[:-1]) & (session[1:] >= 0) & ~np.isnan(arrival_s[1:])
    return int(np.count_nonzero(later & ~(arrival_s[1:] >= completed_s[:-1])))
