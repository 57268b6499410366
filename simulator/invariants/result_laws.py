"""What must hold of the result of a run, computed in another way than the result itself."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.invariants.expected_state import broken
from simulator.log import SENT
from simulator.results import (
    FINISHED,
    IGNORED,
    LATENCIES,
    NOT_ARRIVED,
    PERCENTILES,
    Distribution,
    ReplicaResult,
    Result,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Checked(Protocol):
    """A replica that keeps books.

    Attributes:
        emissions: (first iteration, how many iterations, int64[n] requests that emitted a token in each of them).
    """

    emissions: list[tuple[int, int, Ints]]

    def check_totals(self) -> None:
        """Compare the books with the state."""
        ...


# Sums in another order differ by rounding.
_ROUNDING = 1e-9


def require(holds: bool | np.bool_, *what: object) -> None:
    """Check a law.

    Raises:
        InvariantError: It does not hold.
    """
    if not holds:
        raise broken(*what)


def check_result(result: Result, replicas: Sequence[Checked], restarts: bool = False) -> None:
    """Check what a run returns against what its replicas booked.

    Args:
        result: What the run returns.
        replicas: The books.
        restarts: Whether tokens that a request got before a failure do not count.

    Raises:
        InvariantError: Something does not hold; nothing of the run is to be trusted.
    """
    for one in replicas:
        one.check_totals()
    request, time_s = _emitted(result, replicas, restarts)
    _check_requests(result, request, time_s)
    for number, replica in enumerate(result.replicas):
        _check_iterations(replica, f"of replica {number}", result.end_s)
    _check_latencies(result, request, time_s)


def _emitted(result: Result, replicas: Sequence[Checked], restarts: bool) -> tuple[Ints, Floats]:
    """Return the request and the time of each token that was booked, by request and time."""
    requests, times_s = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for replica, one in zip(result.replicas, replicas, strict=True):
        for _, count, members in one.emissions:
            requests += [members] * count
        spans = [(first, times, len(members)) for first, times, members in one.emissions]
        begin, times, sizes = np.array(spans, dtype=np.int64).reshape(-1, 3).T
        # Each iteration that emitted, as often as there are members.
        place = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        times_s.append(np.repeat(replica.logged.end_s[np.repeat(begin, times) + place], np.repeat(sizes, times)))
    request, time_s = np.concatenate(requests), np.concatenate(times_s)
    if restarts:
        since_s = np.full(len(result.status), -np.inf)
        thrown_out = result.faults.moves[result.faults.moves[:, 3] != SENT]
        np.maximum.at(since_s, thrown_out[:, 0].astype(np.int64), thrown_out[:, 2])
        counts = time_s > since_s[request]
        request, time_s = request[counts], time_s[counts]
    # What each replica booked is in order of time, so that a stable sort will do but for requests that moved.
    order = np.lexsort((time_s, request)) if len(result.faults.moves) else _order(request, len(result.status))
    return request[order], time_s[order]


def _check_requests(result: Result, request: Ints, time_s: Floats) -> None:
    """Requests are conserved, have the tokens that they were to have, and times in order."""
    table, status, size = result.requests, result.status, len(result.status)
    counts = result.num_by_status
    if result.only_client is None:
        require(sum(counts.values()) == size, "requests by what became of them do not add up:", counts)
    num_tokens = np.bincount(request, minlength=size)
    first_s, last_s = np.full(size, np.nan), np.full(size, np.nan)
    begins, ends = _edges(request)
    first_s[request[begins]], last_s[request[ends]] = time_s[begins], time_s[ends]
    finished = status == FINISHED
    require((num_tokens[finished] == table["output_tokens"][finished]).all(), "a finished request lacks tokens")
    complete = num_tokens >= table["output_tokens"]
    require(not (complete & ~finished).any(), "a complete request is not finished")
    require((num_tokens[status == NOT_ARRIVED] == 0).all(), "a request has tokens and has not arrived")
    require(_same(table["first_token_s"], first_s), "a first token is at another time than it was emitted")
    require(_same(table["completed_s"], np.where(finished, last_s, np.nan)), "a request ends at another time")
    require(np.array_equal(table["ignored"] == 1, status == IGNORED), "an ignored request is told as another")
    for before, after in (("arrival_s", "first_scheduled_s"), ("first_scheduled_s", "first_token_s")):
        late = table[before] > table[after]
        require(not late.any(), f"{before} is after {after} of request", np.flatnonzero(late)[:1])


def _check_iterations(replica: ReplicaResult, which: str, end_s: float) -> None:
    """Iterations are in order, one at a time in each stage, and hold no more blocks than there are."""
    columns, spans = replica.logged.columns, replica.stage_spans
    ends_s, starts_s = columns["end_s"], columns["start_s"]
    require(bool((np.diff(ends_s) >= 0).all()), "iterations", which, "do not end in order")
    require(bool((starts_s <= ends_s).all()), "an iteration", which, "ends before it begins")
    require(bool((columns["schedule_s"] <= ends_s).all()), "an iteration", which, "ends before it is decided")
    require(len(ends_s) == 0 or ends_s[-1] <= end_s, "an iteration", which, "ends after the run")
    free = columns["free_blocks"]
    require(bool(((free >= 0) & (free <= replica.num_blocks)).all()), "KV blocks", which, "are out of range")
    if spans is not None:
        overlap = spans[1:, :, 0] < spans[:-1, :, 1] - _ROUNDING
        require(not overlap.any(), "a stage", which, "computes two batches at once")
        require(bool((spans[:, :, 0] <= spans[:, :, 1]).all()), "a stage", which, "ends before it begins")


def _check_latencies(result: Result, request: Ints, time_s: Floats) -> None:
    """Distributions are those of the tokens that were booked, request by request."""
    table = result.requests
    counts = result.counted[request]
    request, time_s = request[counts], time_s[counts]
    begins, ends = _edges(request)
    owner, first_s, last_s = request[begins], time_s[begins], time_s[ends]
    gaps = np.diff(time_s)[~begins[1:]]
    if result.metrics.zero_first_gap:
        gaps = np.append(gaps, np.zeros(len(owner)))
    done = result.status[owner] == FINISHED
    several = done & (table["output_tokens"][owner] > 1)
    arrival_s = table["arrival_s"][owner]
    samples = {
        "ttft_s": first_s - arrival_s,
        "tbt_s": gaps,
        "tpot_s": (last_s - first_s)[several] / (table["output_tokens"][owner][several] - 1),
        "e2e_s": (last_s - arrival_s)[done],
        "scheduling_delay_s": _delays(result),
    }
    for name in LATENCIES:
        _check_distribution(name, result.latencies[name], samples[name])


def _order(request: Ints, num_requests: int) -> Ints:
    """Return the stable order by request; of small numbers it takes NumPy a fraction of the time."""
    return np.argsort(request.astype(np.uint16) if num_requests < 1 << 16 else request, kind="stable")


def _edges(request: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each token, sorted by request, is the first one and the last one of its request."""
    changes = request[1:] != request[:-1]
    size = len(request)
    return np.append(True, changes)[:size], np.append(changes, True)[:size]


def _delays(result: Result) -> Floats:
    table = result.requests
    scheduled_s, arrival_s = table["first_scheduled_s"], table["arrival_s"]
    delays = [
        (result.end_s if np.isnan(scheduled) else scheduled) - arrival
        for scheduled, arrival, ignored, counts in zip(
            scheduled_s.tolist(), arrival_s.tolist(), table["ignored"].tolist(), result.counted.tolist(), strict=True
        )
        if counts and not (ignored and np.isnan(scheduled))
    ]
    return np.array(delays)


def _check_distribution(name: str, told: Distribution, sample: Floats) -> None:
    """Compare a distribution with a sample, up to rounding."""
    if len(sample) == 0:
        require(told.statistic("mean") is None, name, "is told of no request")
        return
    places = {f"p{one}": -(-one * len(sample) // 100) - 1 for one in PERCENTILES} | {"max": len(sample) - 1}
    parted = np.partition(sample, list(places.values()))
    expected = {name: parted[place] for name, place in places.items()}
    for statistic, value in expected.items():
        require(_close(told.statistic(statistic), value), statistic, "of", name, told.statistic(statistic), "is", value)
    mean = float(np.sum(sample)) / len(sample)
    require(_close(told.statistic("mean"), mean), "mean of", name, told.statistic("mean"), "is", mean)


def _close(told: float | None, expected: float) -> bool:
    return told is not None and abs(told - expected) <= _ROUNDING * max(1.0, abs(expected))


def _same(one: Floats, other: Floats) -> bool:
    return np.array_equal(one, other, equal_nan=True)
