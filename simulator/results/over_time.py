"""Step functions over time: queue length, running requests, KV use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.log import LEFT_QUEUE, LEFT_RUNNING, SENT
from simulator.results.prefix_cache import collect_admissions
from simulator.results.replica import ReplicaResult
from simulator.results.result import Result
from simulator.results.status import IGNORED
from simulator.results.tokens import decodes_emitted

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """A step function.

    Attributes:
        time_s: float64[n], times of the steps, increasing.
        value: float64[n], value from each step to the next; 0 before the first.
    """

    time_s: Floats
    value: Floats

    @classmethod
    def of_changes(cls, time_s: Floats, change: Floats) -> "Steps":
        """Sum changes at given times, in any order."""
        order = np.argsort(time_s, kind="stable")
        time_s, value = time_s[order], np.cumsum(change[order])
        last = np.append(time_s[1:] != time_s[:-1], True) if len(time_s) else np.zeros(0, dtype=bool)
        return cls(time_s[last], value[last])

    @property
    def changes(self) -> "Steps":
        """The same function, without steps that leave the value as it is."""
        changed = np.append(True, np.diff(self.value) != 0)[: len(self.value)]
        return Steps(self.time_s[changed], self.value[changed])

    def at(self, time_s: Floats) -> Floats:
        """Return the values at given times: float64[len(time_s)].

        A step at exactly a given time is included.
        """
        index = np.searchsorted(self.time_s, time_s, side="right")
        return np.append(0.0, self.value)[index]

    def mean(self, edges: Floats) -> Floats:
        """Return the exact mean between consecutive edges: float64[len(edges) - 1]."""
        if len(self.time_s) == 0:
            return np.zeros(len(edges) - 1)
        area = np.concatenate([[0.0], np.cumsum(self.value[:-1] * np.diff(self.time_s))])
        index = np.searchsorted(self.time_s, edges, side="right") - 1
        inside = np.maximum(index, 0)
        until = np.where(index < 0, 0.0, area[inside] + self.value[inside] * (edges - self.time_s[inside]))
        return np.asarray(np.diff(until) / np.diff(edges))

    def largest(self, edges: Floats) -> Floats:
        """Return the largest value between consecutive edges: float64[len(edges) - 1]."""
        values = np.append(0.0, self.value)
        first = np.searchsorted(self.time_s, edges[:-1], side="right")
        last = np.searchsorted(self.time_s, edges[1:], side="left")
        # The value at the edge, and at each step inside.
        ends = np.stack([first, np.maximum(last, first) + 1], axis=1).ravel()
        return np.maximum.reduceat(np.append(values, 0.0), ends)[::2]


def time_span(results: Iterable[Result]) -> tuple[float, float]:
    """Return the earliest arrival and the latest end of runs, seconds.

    If the two coincide, the end is put 1 s later, so that the span is not empty.
    """
    spans = [(float(np.nanmin(result.requests["arrival_s"])), result.end_s) for result in results]
    begin_s, end_s = min(begin for begin, _ in spans), max(end for _, end in spans)
    return begin_s, end_s if end_s > begin_s else begin_s + 1.0


def queue_length(result: Result, replicas: Sequence[int] | None = None) -> Steps:
    """Return the number of requests waiting at replicas, preempted ones included.

    Requests queued at the gateway, while no replica is up, are not waiting at a replica.

    Args:
        result: The run. Requests that were ignored as too long are left out.
        replicas: Numbers of the replicas; None: all.
    """
    chosen = range(len(result.replicas)) if replicas is None else replicas
    faults = result.faults
    sent = np.isin(result.requests["replica"], list(chosen)) & (result.status != IGNORED)
    sent[faults.moved] = False
    arrival_s = result.requests["arrival_s"][sent]
    times, changes = [arrival_s], [np.ones(len(arrival_s))]
    for number in chosen:
        replica = result.replicas[number]
        admitted_s, preempted_s = _scheduled_s(replica, replica.request_events.admissions[:, 1]), _preempted_s(replica)
        for events_s, change in ((admitted_s, -1.0), (preempted_s, 1.0)):
            times.append(events_s)
            changes.append(np.full(len(events_s), change))
        ended = _ended_waiting(result, number)
        times.append(replica.logged.end_s[ended])
        changes.append(np.full(len(ended), -1.0))
    for number in chosen:
        for kind, change in ((SENT, 1.0), (LEFT_QUEUE, -1.0)):
            moves = faults.of_moved(number, kind)
            moves = moves[result.status[moves[:, 0].astype(np.int64)] != IGNORED]
            times.append(moves[:, 1])
            changes.append(np.full(len(moves), change))
    return Steps.of_changes(np.concatenate(times), np.concatenate(changes))


def num_running(result: Result, number: int) -> Steps:
    """Return the number of running requests of a replica.

    A request runs from its admission to its last token, unless it is preempted or a failure drops it.
    """
    replica = result.replicas[number]
    request_events = replica.request_events
    times = [
        _scheduled_s(replica, request_events.admissions[:, 1]),
        _preempted_s(replica),
        replica.logged.end_s[request_events.finishes[:, 1]],
        result.faults.left_running(number),
        replica.logged.end_s[_ended_waiting(result, number)],
    ]
    changes = np.repeat([1.0, -1.0, -1.0, -1.0, 1.0], [len(times_s) for times_s in times])
    return Steps.of_changes(np.concatenate(times), changes)


def _ended_waiting(result: Result, number: int) -> NDArray[np.int64]:
    """Return the iterations that emitted the last token of preempted requests.

    These requests were preempted while the iteration was in flight.
    """
    request_events = result.replicas[number].request_events
    thrown_out = result.faults.of_moved(number, LEFT_RUNNING)[:, :1].astype(np.int64)
    left = np.concatenate([request_events.preemptions[:, :1], thrown_out])
    size = 1 + int(request_events.admissions[:, 0].max(initial=-1))
    admitted, left_again = (np.bincount(rows[:, 0], minlength=size) for rows in (request_events.admissions, left))
    in_queue: NDArray[np.int64] = request_events.finishes[(admitted == left_again)[request_events.finishes[:, 0]], 1]
    return in_queue


def prefix_cache_hits(result: Result) -> tuple[Steps, Steps]:
    """Return the cumulative prompt tokens admitted, and those cached.

    Both count first admissions at replicas with a prefix cache; readmissions are left out.
    """
    admissions = collect_admissions(result.replicas)
    first = admissions.is_first & admissions.has_prefix_cache
    time_s, prompts = admissions.time_s[first], result.requests["prompt_tokens"][admissions.request[first]]
    changes = prompts.astype(np.float64), admissions.num_cached_tokens[first].astype(np.float64)
    return Steps.of_changes(time_s, changes[0]), Steps.of_changes(time_s, changes[1])


def evicted_blocks(result: Result) -> Steps:
    """Return the number of KV blocks evicted so far."""
    times = [_scheduled_s(replica, replica.request_events.evictions[:, 1]) for replica in result.replicas]
    counts = [replica.request_events.evictions[:, 0].astype(np.float64) for replica in result.replicas]
    return Steps.of_changes(np.concatenate(times), np.concatenate(counts))


def blocks_used(result: Result, number: int) -> Steps:
    """Return the KV blocks in use at a replica over time.

    Values are those after each scheduling decision, and 0 while nothing runs.
    """
    replica = result.replicas[number]
    columns, end_s = replica.logged.columns, replica.logged.end_s
    scheduled_s = columns["schedule_s"]
    used = (replica.num_blocks - columns["free_blocks"]).astype(np.float64)
    if len(end_s) == 0:
        return Steps(np.zeros(0), np.zeros(0))
    idle = np.flatnonzero(after_idle(replica)[1:])
    running = num_running(result, number).value
    still_running = len(running) > 0 and running[-1] > 0
    idle_s = np.append(end_s[idle], [] if still_running else end_s.max())
    order = np.argsort(np.concatenate([scheduled_s, idle_s]), kind="stable")
    time_s = np.concatenate([scheduled_s, idle_s])[order]
    return Steps(time_s, np.concatenate([used, np.zeros(len(idle_s))])[order])


def after_idle(replica: ReplicaResult) -> NDArray[np.bool_]:
    """Return whether each iteration was scheduled with nothing in flight: bool[num_iterations]."""
    scheduled_s, end_s = replica.logged.columns["schedule_s"], replica.logged.end_s
    return np.append(True, scheduled_s[1:] > np.maximum.accumulate(end_s)[:-1])[: len(end_s)]


def kv_use(result: Result) -> Steps:
    """Return the share of the KV blocks of all replicas in use."""
    parts = [blocks_used(result, number) for number in range(len(result.replicas))]
    changes = [np.diff(used.value, prepend=0.0) for used in parts]
    num_blocks = sum(replica.num_blocks for replica in result.replicas)
    total = Steps.of_changes(np.concatenate([used.time_s for used in parts]), np.concatenate(changes))
    return Steps(total.time_s, np.round(total.value) / num_blocks)


def output_tokens(result: Result, replicas: Sequence[int] | None = None) -> Steps:
    """Return the number of tokens emitted so far.

    Args:
        result: The run.
        replicas: Numbers of the replicas; None: all.
    """
    times, counts = [], []
    for number in range(len(result.replicas)) if replicas is None else replicas:
        replica = result.replicas[number]
        emitted = decodes_emitted(replica.tokens)
        emitted += np.bincount(replica.request_events.prefill_ends[:, 1], minlength=len(emitted))
        times.append(replica.logged.end_s[emitted > 0])
        counts.append(emitted[emitted > 0].astype(np.float64))
    return Steps.of_changes(np.concatenate(times), np.concatenate(counts))


def stalls(result: Result, number: int) -> tuple[Floats, Floats]:
    """Return the generation stalls of a replica.

    These are spans in which requests decode and no decode token is emitted.

    Returns:
        float64[n] starts and float64[n] lengths, seconds.
    """
    replica = result.replicas[number]
    end_s, request_events = replica.logged.end_s, replica.request_events
    prefills = request_events.prefill_ends[~np.isin(request_events.prefill_ends[:, 0], result.faults.moved)]
    first = np.unique(prefills[:, 0], return_index=True)[1]
    begun, left = _decodes_of_moved(result, number)
    starts_s = np.concatenate([end_s[prefills[first, 1]], begun])
    ends_s = np.concatenate([end_s[request_events.finishes[:, 1]], left])
    changes = np.repeat([1.0, -1.0], [len(starts_s), len(ends_s)])
    decoding = Steps.of_changes(np.concatenate([starts_s, ends_s]), changes)
    begins_s = decoding.time_s[(np.append(0.0, decoding.value[:-1]) == 0) & (decoding.value > 0)]
    marks_s = np.unique(np.concatenate([end_s[decodes_emitted(replica.tokens) > 0], begins_s]))
    index = np.searchsorted(decoding.time_s, marks_s[:-1], side="right") - 1
    waiting = decoding.value[index] > 0
    return marks_s[:-1][waiting], np.diff(marks_s)[waiting]


def _decodes_of_moved(result: Result, number: int) -> tuple[Floats, Floats]:
    """Return when requests hit by failures started and stopped decoding.

    Returns:
        Seconds at which they started to decode at the replica, and at which a failure of it dropped them.
    """
    replica, faults = result.replicas[number], result.faults
    tokens = replica.request_events.prefill_ends
    tokens = tokens[np.isin(tokens[:, 0], faults.moved)]
    emitted = np.stack([tokens[:, 0], replica.logged.end_s[tokens[:, 1]]], axis=1)
    begun: list[float] = []
    left: list[float] = []
    for request in np.unique(tokens[:, 0]):
        came_s, first_s, left_s = (
            rows[rows[:, 0] == request, 1]
            for rows in (faults.of_moved(number, SENT), emitted, faults.of_moved(number, LEFT_RUNNING))
        )
        for stay, until_s in zip(came_s, np.append(came_s[1:], np.inf), strict=True):
            here = first_s[(first_s > stay) & (first_s <= until_s)]
            if len(here):
                begun.append(float(here.min()))
                left += left_s[(left_s > stay) & (left_s <= until_s)].tolist()
    return np.array(begun), np.array(left)


def _scheduled_s(replica: ReplicaResult, iterations: NDArray[np.int64]) -> Floats:
    """Return when each iteration was scheduled.

    For an iteration that never began, this is when the last one ended.
    """
    scheduled_s = np.append(replica.logged.columns["schedule_s"], replica.logged.end_s.max(initial=0.0))
    return np.asarray(scheduled_s[np.minimum(iterations, len(scheduled_s) - 1)])


def _preempted_s(replica: ReplicaResult) -> Floats:
    """Return when each preemption was decided."""
    decided_s = _scheduled_s(replica, replica.request_events.preemptions[:, 1])
    lone = replica.logged.lone_preemptions
    decided_s[lone[:, 0].astype(np.int64)] = lone[:, 1]
    return decided_s
