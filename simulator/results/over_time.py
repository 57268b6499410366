"""Step functions over time: queue length, running requests, KV use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.log import StayEnd
from simulator.results.prefix_cache import collect_admissions
from simulator.results.replica import ReplicaResult
from simulator.results.result import Result
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
        result: The run. Requests that were refused as too long are left out.
        replicas: Numbers of the replicas; None: all.
    """
    stays = result.stays
    stays = stays.at(stays.why != StayEnd.REFUSED)
    if replicas is not None:
        stays = stays.at(np.isin(stays.replica, replicas))
    parts = [(stays.arrived_s, 1.0), (stays.left_s[~(stays.was_running | np.isnan(stays.left_s))], -1.0)]
    for number in range(len(result.replicas)) if replicas is None else replicas:
        replica = result.replicas[number]
        parts += [(_admitted_s(replica), -1.0), (_preempted_s(replica), 1.0)]
    return _sum_of(parts)


def num_running(result: Result, number: int) -> Steps:
    """Return the number of running requests of a replica.

    A request runs from its admission until it leaves, unless it is preempted.
    """
    replica, stays = result.replicas[number], result.stays
    left_s = stays.left_s[(stays.replica == number) & stays.was_running]
    return _sum_of([(_admitted_s(replica), 1.0), (_preempted_s(replica), -1.0), (left_s, -1.0)])


def _sum_of(parts: Iterable[tuple[Floats, float]]) -> Steps:
    """Sum changes, each given by its times and its size."""
    times, sizes = zip(*parts, strict=True)
    return Steps.of_changes(np.concatenate(times), np.repeat(sizes, [len(times_s) for times_s in times]))


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
    starts_s, ends_s = _decoding_s(result, number)
    decoding = _sum_of([(starts_s, 1.0), (ends_s, -1.0)])
    edges_s = decoding.time_s[np.diff(decoding.value > 0, prepend=False)]
    marks_s = np.unique(np.concatenate([replica.logged.end_s[decodes_emitted(replica.tokens) > 0], edges_s]))
    index = np.searchsorted(decoding.time_s, marks_s[:-1], side="right") - 1
    waiting = decoding.value[index] > 0
    return marks_s[:-1][waiting], np.diff(marks_s)[waiting]


def _decoding_s(result: Result, number: int) -> tuple[Floats, Floats]:
    """Return when the stays with tokens began to decode, and ended.

    Returns:
        Seconds of the first token of each stay, and of the ends.
    """
    replica, stays = result.replicas[number], result.stays
    stays = stays.at(stays.replica == number)
    prefilled, iteration = replica.request_events.prefill_ends.T
    emitted_s = replica.logged.end_s[iteration]
    request, num_stays = np.append(stays.request, prefilled), len(stays.request)
    order = np.lexsort((np.append(stays.arrived_s, emitted_s), request))
    # The first token of a stay follows its arrival.
    is_first = (order[1:] >= num_stays) & (order[:-1] < num_stays)
    left_s = stays.left_s[order[:-1][is_first]]
    return emitted_s[order[1:][is_first] - num_stays], left_s[~np.isnan(left_s)]


def _scheduled_s(replica: ReplicaResult, iterations: NDArray[np.int64]) -> Floats:
    """Return when each iteration was scheduled.

    For an iteration that never began, this is when the last one ended.
    """
    scheduled_s = np.append(replica.logged.columns["schedule_s"], replica.logged.end_s.max(initial=0.0))
    return np.asarray(scheduled_s[np.minimum(iterations, len(scheduled_s) - 1)])


def _admitted_s(replica: ReplicaResult) -> Floats:
    """Return when each admission was decided."""
    return _scheduled_s(replica, replica.request_events.admissions[:, 1])


def _preempted_s(replica: ReplicaResult) -> Floats:
    """Return when each preemption was decided."""
    decided_s = _scheduled_s(replica, replica.request_events.preemptions[:, 1])
    lone = replica.logged.lone_preemptions
    decided_s[lone[:, 0].astype(np.int64)] = lone[:, 1]
    return decided_s
