"""Validation of arrays read from the file of a run."""

import numpy as np
from numpy.typing import NDArray

from simulator.log import KINDS, NO_DECODE_SET, FaultSpan, StayEnd, Stays
from simulator.results import STATUS_NAMES, ReplicaResult, Result
from traces.shared.value_checks import choice, integer, number

_MOST = 2**62
_MAX_S = 1e12  # longer than any fault


def validate_result(result: Result) -> None:
    """Check sizes, ranges and the order of times.

    No computation on a result that passes fails or returns nonsense.

    Raises:
        ValueError: A check fails; the message says which.
    """
    num_requests = len(result.status)
    if num_requests == 0 or any(len(column) != num_requests for column in result.requests.values()):
        raise ValueError("its tables have different numbers of requests")
    _require_within("status", result.status, 0, len(STATUS_NAMES) - 1)
    if not result.replicas or not isinstance(result.end_s, float) or not np.isfinite(result.end_s):
        raise ValueError("it has no replica or no end")
    if not all(isinstance(note, str) for note in result.notes):
        raise ValueError("its notes are not strings")
    _check_stays(result.stays, num_requests, len(result.replicas))
    for span in result.faults.spans:
        _check_fault(span, len(result.replicas))
    for replica in result.replicas:
        _check_replica(replica, num_requests, result.end_s)


def _check_stays(stays: Stays, num_requests: int, num_replicas: int) -> None:
    if any(column.shape != stays.request.shape for column in stays.columns.values()) or stays.request.ndim != 1:
        raise ValueError("the columns of its stays differ in length")
    _require_within("stays: request", stays.request, 0, num_requests - 1)
    _require_within("stays: replica", stays.replica, 0, num_replicas - 1)
    _require_within("stays: why", stays.why, min(StayEnd), max(StayEnd))
    if not np.isfinite(stays.arrived_s).all() or (np.diff(stays.arrived_s) < 0).any():
        raise ValueError("its stays do not begin in order")
    if (stays.left_s < stays.arrived_s).any() or not (np.isfinite(stays.left_s) == (stays.why > 0)).all():
        raise ValueError("its stays do not end after they begin")


def _check_fault(span: FaultSpan, num_replicas: int) -> None:
    choice("faults: kind", span.kind, KINDS)
    number("faults: at_s", span.at_s, 0, _MAX_S)
    number("faults: for_s", 0 if span.for_s is None else span.for_s, 0, _MAX_S)
    integer("faults: replica", span.replica, 0, num_replicas - 1)
    number("faults: slowdown", span.slowdown, 1, _MAX_S)


def _check_replica(replica: ReplicaResult, num_requests: int, end_s: float) -> None:
    logged, request_events = replica.logged, replica.request_events
    size = len(logged.end_s)
    if len(logged.free_blocks) != size or not np.isfinite(logged.end_s).all() or (np.diff(logged.end_s) < 0).any():
        raise ValueError("the ends of its iterations are not in order")
    if size and not 0 <= logged.end_s[0] <= logged.end_s[-1] <= end_s:
        raise ValueError("iterations end after the run")
    _require_within("free_blocks", logged.free_blocks.astype(np.int64), 0, replica.num_blocks)
    first = logged.runs[:, 0]
    if not (np.abs(logged.runs) < _MOST).all() or (size > 0) != (len(first) > 0):
        raise ValueError("its runs of iterations are not finite numbers")
    if size and (first[0] != 0 or (np.diff(first) <= 0).any() or first[-1] >= size):
        raise ValueError("its runs of iterations are not in order")
    _require_within("decode_set", logged.runs[:, -1].astype(np.int64), NO_DECODE_SET, replica.placement.pp)
    if logged.stage_spans is not None and len(logged.stage_spans) != size:
        raise ValueError("stage_spans must have a row for each iteration")
    for name in ("admissions", "prefill_ends", "finishes", "preemptions"):
        events = getattr(request_events, name)
        _require_within(name, events[:, 0], 0, num_requests - 1)
        _require_within(name, events[:, 1], 0, size if name == "preemptions" else size - 1)
    numbers, times_s = logged.lone_preemptions.T
    if not np.isfinite(numbers).all() or (numbers % 1).any() or (np.diff(numbers) <= 0).any():
        raise ValueError("lone_preemptions are not increasing integers")
    if not (np.isfinite(times_s) & (times_s >= 0)).all():
        raise ValueError("lone_preemptions have no times")
    _require_within("lone_preemptions", numbers.astype(np.int64), 0, len(request_events.preemptions) - 1)
    _require_within("tokens found in the prefix cache", request_events.admissions[:, 2], 0, _MOST)
    _require_within("evictions", request_events.evictions[:, 0], 1, _MOST)
    _require_within("evictions", request_events.evictions[:, 1], 0, size)
    if len(request_events.blocks_needed) != len(request_events.admissions):
        raise ValueError("blocks_needed must have a number for each admission")
    _check_decode_spans(replica, num_requests)


def _check_decode_spans(replica: ReplicaResult, num_requests: int) -> None:
    request, decode_set, joined, left = replica.request_events.decode_spans.T
    _require_within("decode_spans", request, 0, num_requests - 1)
    _require_within("decode_spans", decode_set, 0, replica.placement.pp)
    if (joined < 0).any() or (left <= joined).any():
        raise ValueError("decode_spans must have at least one iteration")
    lengths = np.bincount(
        replica.logged.columns["decode_set"] - NO_DECODE_SET, minlength=replica.placement.pp + 1 - NO_DECODE_SET
    )
    if (left > lengths[decode_set - NO_DECODE_SET]).any():
        raise ValueError("decode_spans must end within the iterations of their decode set")


def _require_within(name: str, values: NDArray[np.int64], least: int, most: int) -> None:
    if len(values) and not least <= values.min() <= values.max() <= most:
        raise ValueError(f"{name} must be from {least} to {most}")
