"""What a run looked like over time, as step functions: queue, running requests, KV use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.log import LEFT_QUEUE, LEFT_RUNNING, SENT
from simulator.results.latency import decodes_emitted
from simulator.results.prefix_cache import admissions
from simulator.results.replica import ReplicaResult
from simulator.results.result import Result
from simulator.results.status import IGNORED

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """A step function.

    Attributes:
        time_s: float64[n], when it changes, increasing.
        value: float64[n], what it is from then until the next change.
    """

    time_s: Floats
    value: Floats

    @classmethod
    def of_changes(cls, time_s: Floats, change: Floats) -> "Steps":
        """Return the sum of changes at given times, in any order."""
        order = np.argsort(time_s, kind="stable")
        time_s, value = time_s[order], np.cumsum(change[order])
        last = np.append(time_s[1:] != time_s[:-1], True) if len(time_s) else np.zeros(0, dtype=bool)
        return cls(time_s[last], value[last])

    @property
    def changes(self) -> "Steps":
        """The same function without steps that change nothing."""
        changed = np.append(True, np.diff(self.value) != 0)[: len(self.value)]
        return Steps(self.time_s[changed], self.value[changed])

    def at(self, time_s: Floats) -> Floats:
        """Return its values at some times, changes at that very time included: float64[len(time_s)]."""
        place = np.searchsorted(self.time_s, time_s, side="right")
        return np.append(0.0, self.value)[place]

    def mean(self, edges: Floats) -> Floats:
        """Return the mean over each interval between neighbouring edges, exactly: float64[len(edges) - 1]."""
        if len(self.time_s) == 0:
            return np.zeros(len(edges) - 1)
        area = np.concatenate([[0.0], np.cumsum(self.value[:-1] * np.diff(self.time_s))])
        place = np.searchsorted(self.time_s, edges, side="right") - 1
        inside = np.maximum(place, 0)
        until = np.where(place < 0, 0.0, area[inside] + self.value[inside] * (edges - self.time_s[inside]))
        return np.asarray(np.diff(until) / np.diff(edges))

    def largest(self, edges: Floats) -> Floats:
        """Return the largest value in each interval between neighbouring edges: float64[len(edges) - 1]."""
        values = np.append(0.0, self.value)
        first = np.searchsorted(self.time_s, edges[:-1], side="right")
        last = np.searchsorted(self.time_s, edges[1:], side="left")
        # At the edge itself, and at each change inside.
        ends = np.stack([first, np.maximum(last, first) + 1], axis=1).ravel()
        return np.maximum.reduceat(np.append(values, 0.0), ends)[::2]


def time_span(results: Iterable[Result]) -> tuple[float, float]:
    """First arrival and end of some runs, seconds; a second apart if they took no time."""
    spans = [(float(np.nanmin(result.requests["arrival_s"])), result.end_s) for result in results]
    begin_s, end_s = min(begin for begin, _ in spans), max(end for _, end in spans)
    return begin_s, end_s if end_s > begin_s else begin_s + 1.0


def queue_length(result: Result, replicas: Sequence[int] | None = None) -> Steps:
    """Requests that have arrived at a replica and are not admitted, preempted ones included.

    Those that are held because no replica is up have not arrived at any.

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
    """Requests that are admitted at a replica and have not emitted their last token."""
    replica = result.replicas[number]
    request_events = replica.request_events
    times = [
        _scheduled_s(replica, request_events.admissions[:, 1]),
        _preempted_s(replica),
        replica.logged.end_s[request_events.finishes[:, 1]],
        result.faults.left_running(number),
        replica.logged.end_s[_ended_waiting(result, number)],
    ]
    changes = np.repeat([1.0, -1.0, -1.0, -1.0, 1.0], [len(one) for one in times])
    return Steps.of_changes(np.concatenate(times), changes)


def _ended_waiting(result: Result, number: int) -> NDArray[np.int64]:
    """Iterations of a replica that brought the last token of a request that had been preempted meanwhile."""
    request_events = result.replicas[number].request_events
    thrown_out = result.faults.of_moved(number, LEFT_RUNNING)[:, :1].astype(np.int64)
    left = np.concatenate([request_events.preemptions[:, :1], thrown_out])
    size = 1 + int(request_events.admissions[:, 0].max(initial=-1))
    admitted, left_again = (np.bincount(one[:, 0], minlength=size) for one in (request_events.admissions, left))
    in_queue: NDArray[np.int64] = request_events.finishes[(admitted == left_again)[request_events.finishes[:, 0]], 1]
    return in_queue


def found_tokens(result: Result) -> tuple[Steps, Steps]:
    """Prompt tokens of requests admitted so far, and how many were found in a prefix cache; readmissions left out."""
    found = admissions(result.replicas)
    first = found.is_first & found.caches
    time_s, prompts = found.time_s[first], result.requests["prompt_tokens"][found.request[first]]
    changes = prompts.astype(np.float64), found.num_found[first].astype(np.float64)
    return Steps.of_changes(time_s, changes[0]), Steps.of_changes(time_s, changes[1])


def evicted_blocks(result: Result) -> Steps:
    """KV blocks that lost what they held so far."""
    times = [_scheduled_s(one, one.request_events.evictions[:, 1]) for one in result.replicas]
    counts = [one.request_events.evictions[:, 0].astype(np.float64) for one in result.replicas]
    return Steps.of_changes(np.concatenate(times), np.concatenate(counts))


def blocks_used(result: Result, number: int) -> Steps:
    """KV blocks held at a replica, as of each decision; none while nothing runs."""
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
    """Whether nothing was in flight before the decision for each iteration: bool[num_iterations]."""
    scheduled_s, end_s = replica.logged.columns["schedule_s"], replica.logged.end_s
    return np.append(True, scheduled_s[1:] > np.maximum.accumulate(end_s)[:-1])[: len(end_s)]


def kv_use(result: Result) -> Steps:
    """Share of the KV blocks of all replicas that are held."""
    parts = [blocks_used(result, number) for number in range(len(result.replicas))]
    changes = [np.diff(one.value, prepend=0.0) for one in parts]
    num_blocks = sum(replica.num_blocks for replica in result.replicas)
    total = Steps.of_changes(np.concatenate([one.time_s for one in parts]), np.concatenate(changes))
    return Steps(total.time_s, np.round(total.value) / num_blocks)


def output_tokens(result: Result, replicas: Sequence[int] | None = None) -> Steps:
    """Tokens emitted so far.

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
    """Times in which no decode of a replica got a token although a request there waited for its next one.

    Returns:
        float64[n] their beginnings and float64[n] their lengths, seconds.
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
    place = np.searchsorted(decoding.time_s, marks_s[:-1], side="right") - 1
    waiting = decoding.value[place] > 0
    return marks_s[:-1][waiting], np.diff(marks_s)[waiting]


def _decodes_of_moved(result: Result, number: int) -> tuple[Floats, Floats]:
    """When requests that failures hit began to decode at a replica, and when they were thrown out of it then."""
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
    """When the decision before an iteration fell; for one that never began, when the last one ended."""
    scheduled_s = np.append(replica.logged.columns["schedule_s"], replica.logged.end_s.max(initial=0.0))
    return np.asarray(scheduled_s[np.minimum(iterations, len(scheduled_s) - 1)])


def _preempted_s(replica: ReplicaResult) -> Floats:
    """When each preemption was decided."""
    decided_s = _scheduled_s(replica, replica.request_events.preemptions[:, 1])
    alone = replica.logged.lone_preemptions
    decided_s[alone[:, 0].astype(np.int64)] = alone[:, 1]
    return decided_s
