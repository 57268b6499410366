"""Checks of a result against an independent computation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.invariants.checked_replica import CheckedReplica
from simulator.invariants.errors import InvariantError
from simulator.log import StayEnd
from simulator.results import (
    FINISHED,
    IGNORED,
    LATENCIES,
    NOT_ARRIVED,
    PERCENTILES,
    STUCK,
    UNFINISHED,
    Distribution,
    ReplicaResult,
    Result,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


# Sums in a different order differ by rounding.
_ROUNDING = 1e-9


def _require(holds: bool | np.bool_, *parts: object) -> None:
    """Check an invariant.

    Args:
        holds: Whether the invariant holds.
        *parts: Words and values of the message if it does not.

    Raises:
        InvariantError: It does not hold.
    """
    if not holds:
        raise InvariantError(*parts)


def check_result(result: Result, replicas: Sequence[CheckedReplica], restarts: bool = False) -> None:
    """Check a result against the tokens that the replicas emitted.

    Args:
        result: Result of the run.
        replicas: Replicas of the run, in the order of `result.replicas`.
        restarts: Whether requests restart after a failure, so that earlier tokens do not count.

    Raises:
        InvariantError: An invariant is violated; no result of the run can be trusted.
    """
    for replica in replicas:
        replica.check_totals()
    request, time_s = _emitted(result, replicas, restarts)
    _check_requests(result, request, time_s)
    _check_stays(result)
    for number, replica_result in enumerate(result.replicas):
        _check_iterations(replica_result, f"of replica {number}", result.end_s)
    _check_latencies(result, request, time_s)


def _emitted(result: Result, replicas: Sequence[CheckedReplica], restarts: bool) -> tuple[Ints, Floats]:
    """Return request and time of each emitted token, sorted by both."""
    failed = result.stays.at((result.stays.why == StayEnd.FAILED) & restarts)
    restart_s = np.full(len(result.status), -np.inf)
    np.maximum.at(restart_s, failed.request, failed.left_s)
    requests, times_s = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for replica_result, replica in zip(result.replicas, replicas, strict=True):
        members = [np.zeros(0, dtype=np.int64)]
        for _, count, emitting in replica.emissions:
            members += [emitting] * count
        runs = [(first, count, len(emitting)) for first, count, emitting in replica.emissions]
        begins, counts, sizes = np.array(runs, dtype=np.int64).reshape(-1, 3).T
        # The number of each iteration that emitted a token; its end time counts once per member.
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        iteration = np.repeat(np.repeat(begins, counts) + offsets, np.repeat(sizes, counts))
        request = np.concatenate(members)
        is_counted = replica_result.logged.end_s[iteration] > restart_s[request]
        requests.append(request[is_counted])
        times_s.append(replica_result.delivered_s[iteration[is_counted]])
    request, time_s = np.concatenate(requests), np.concatenate(times_s)
    # A replica emits in order of time: a stable sort by request is enough unless requests were at several replicas.
    has_one_stay = np.bincount(result.stays.request).max(initial=0) <= 1
    order = _order(request, len(result.status)) if has_one_stay else np.lexsort((time_s, request))
    return request[order], time_s[order]


def _check_requests(result: Result, request: Ints, time_s: Floats) -> None:
    """Check conservation of requests, their output tokens, and order of times."""
    table, status, size = result.requests, result.status, len(result.status)
    counts = result.num_by_status
    if result.only_client is None:
        _require(sum(counts.values()) == size, "requests by status do not add up:", counts)
    num_tokens = np.bincount(request, minlength=size)
    first_s, last_s = np.full(size, np.nan), np.full(size, np.nan)
    begins, ends = _edges(request)
    first_s[request[begins]], last_s[request[ends]] = time_s[begins], time_s[ends]
    finished = status == FINISHED
    _require((num_tokens[finished] == table["output_tokens"][finished]).all(), "a finished request lacks tokens")
    complete = num_tokens >= table["output_tokens"]
    _require(not (complete & ~finished).any(), "a request with all its tokens is not finished")
    _require((num_tokens[status == NOT_ARRIVED] == 0).all(), "a request that has not arrived has tokens")
    _require(_is_same(table["first_token_s"], first_s), "first_token_s is not the time of the first emitted token")
    _require(
        _is_same(table["completed_s"], np.where(finished, last_s, np.nan)),
        "completed_s is not the time of the last emitted token",
    )
    _require(np.array_equal(table["ignored"] == 1, status == IGNORED), "the column ignored and the status disagree")
    for before, after in (("arrival_s", "first_scheduled_s"), ("first_scheduled_s", "first_token_s")):
        late = table[before] > table[after]
        _require(not late.any(), f"{before} is after {after} for request", np.flatnonzero(late)[:1])


def _check_stays(result: Result) -> None:
    """Check that stays do not overlap, and end with their request."""
    stays, status = result.stays, result.status
    _require(bool((np.diff(stays.arrived_s) >= 0).all()), "the stays are not in order of time")
    stays = stays.at(np.argsort(stays.request, kind="stable"))
    _require(not (stays.left_s < stays.arrived_s).any(), "a stay ends before it begins")
    is_last = _edges(stays.request)[1]
    in_order = stays.arrived_s[1:] >= stays.left_s[:-1]
    _require(bool(in_order[~is_last[:-1]].all()), "a request is at two replicas at once")
    for end, ended in ((StayEnd.FINISHED, FINISHED), (StayEnd.REFUSED, IGNORED)):
        is_same = np.array_equal(stays.request[stays.why == end], np.flatnonzero(status == ended))
        _require(is_same, "the stays that end as", end.name, "are not those of the requests that do")
        _require(bool(is_last[stays.why == end].all()), "a request is sent to a replica after it ended as", end.name)
    still_there = status[stays.request[stays.why == StayEnd.STILL_THERE]]
    _require(bool(np.isin(still_there, (UNFINISHED, STUCK)).all()), "an ended request has not left its replica")
    for number, replica in enumerate(result.replicas):
        own = stays.at((stays.replica == number) & (stays.why == StayEnd.FINISHED))
        finishes = replica.request_events.finishes
        finishes = finishes[np.argsort(finishes[:, 0])]
        _require(np.array_equal(own.request, finishes[:, 0]), "other requests finish at replica", number, "than leave")
        end_s = replica.logged.end_s[finishes[:, 1]]
        _require(np.array_equal(own.left_s, end_s), "a request leaves replica", number, "without its last token")


def _check_iterations(replica: ReplicaResult, which: str, end_s: float) -> None:
    """Check the order of iterations and the range of free KV blocks.

    Each stage computes one iteration at a time.

    Args:
        replica: Result of the replica.
        which: Words that name the replica in messages.
        end_s: End of the run.
    """
    columns, spans = replica.logged.columns, replica.stage_spans
    ends_s, starts_s = columns["end_s"], columns["start_s"]
    _require(bool((np.diff(ends_s) >= 0).all()), "iterations", which, "do not end in order")
    _require(bool((starts_s <= ends_s).all()), "an iteration", which, "ends before it starts")
    _require(bool((columns["schedule_s"] <= ends_s).all()), "an iteration", which, "ends before it is scheduled")
    _require(len(ends_s) == 0 or ends_s[-1] <= end_s, "an iteration", which, "ends after the run")
    free = columns["free_blocks"]
    _require(bool(((free >= 0) & (free <= replica.num_blocks)).all()), "the free KV blocks", which, "are out of range")
    if spans is not None:
        overlap = spans[1:, :, 0] < spans[:-1, :, 1] - _ROUNDING
        _require(not overlap.any(), "a stage", which, "computes two batches at once")
        _require(bool((spans[:, :, 0] <= spans[:, :, 1]).all()), "a stage", which, "ends before it starts")


def _check_latencies(result: Result, request: Ints, time_s: Floats) -> None:
    """Check the latency distributions against the emitted tokens, request by request."""
    table = result.requests
    is_counted = result.counted[request]
    request, time_s = request[is_counted], time_s[is_counted]
    begins, ends = _edges(request)
    owner, first_s, last_s = request[begins], time_s[begins], time_s[ends]
    gaps = np.diff(time_s)[~begins[1:]]
    if result.metrics.zero_first_gap:
        gaps = np.append(gaps, np.zeros(len(owner)))
    finished = result.status[owner] == FINISHED
    has_tpot = finished & (table["output_tokens"][owner] > 1)
    arrival_s = table["arrival_s"][owner]
    samples = {
        "ttft_s": first_s - arrival_s,
        "tbt_s": gaps,
        "tpot_s": (last_s - first_s)[has_tpot] / (table["output_tokens"][owner][has_tpot] - 1),
        "e2e_s": (last_s - arrival_s)[finished],
        "scheduling_delay_s": _scheduling_delays(result),
    }
    for name in LATENCIES:
        _check_distribution(name, result.latencies[name], samples[name])


def _order(request: Ints, num_requests: int) -> Ints:
    """Return the stable order by request; NumPy sorts 16-bit numbers much faster."""
    return np.argsort(request.astype(np.uint16) if num_requests < 1 << 16 else request, kind="stable")


def _edges(request: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether each token is its request's first, and its last.

    The tokens are sorted by request.
    """
    is_change = request[1:] != request[:-1]
    size = len(request)
    return np.append(True, is_change)[:size], np.append(is_change, True)[:size]


def _scheduling_delays(result: Result) -> Floats:
    table = result.requests
    scheduled_s, arrival_s = table["first_scheduled_s"], table["arrival_s"]
    delays = [
        (result.end_s if np.isnan(scheduled) else scheduled) - arrival
        for scheduled, arrival, ignored, is_counted in zip(
            scheduled_s.tolist(), arrival_s.tolist(), table["ignored"].tolist(), result.counted.tolist(), strict=True
        )
        if is_counted and not (ignored and np.isnan(scheduled))
    ]
    return np.array(delays)


def _check_distribution(name: str, distribution: Distribution, sample: Floats) -> None:
    """Check a distribution against a sample, up to rounding."""
    if len(sample) == 0:
        _require(distribution.statistic("mean") is None, name, "has statistics but no sample")
        return
    indexes = {f"p{level}": -(-level * len(sample) // 100) - 1 for level in PERCENTILES} | {"max": len(sample) - 1}
    partitioned = np.partition(sample, list(indexes.values()))
    expected = {statistic: float(partitioned[index]) for statistic, index in indexes.items()}
    expected["mean"] = float(np.sum(sample)) / len(sample)
    for statistic, value in expected.items():
        actual = distribution.statistic(statistic)
        _require(_is_close(actual, value), statistic, "of", name, "is", actual, "instead of", value)


def _is_close(actual: float | None, expected: float) -> bool:
    return actual is not None and abs(actual - expected) <= _ROUNDING * max(1.0, abs(expected))


def _is_same(actual: Floats, expected: Floats) -> bool:
    return np.array_equal(actual, expected, equal_nan=True)
