"""Collection of a result from the logs.

This is the only file that imports both the simulation and the results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.cluster.cluster import Cluster
from simulator.cluster.replica_spec import ReplicaSpec
from simulator.engine import ReplicaRun, StuckReason
from simulator.log import NO_REPLICA, StayEnd, Stays, rows_by_replica
from simulator.replica import decode_spans
from simulator.results import (
    FINISHED,
    IGNORED,
    LOST,
    NOT_ARRIVED,
    STUCK,
    UNFINISHED,
    FaultResult,
    MetricOptions,
    ReplicaResult,
    RequestEventArrays,
    Result,
    Warning,
    cached_tokens,
)
from traces import Trace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = dict[str, NDArray[Any]]
# A smaller share of users with a request running gives a warning.
MIN_BUSY_USERS = 0.5


def collect_result(trace: Trace, cluster: Cluster, metrics: MetricOptions, notes: Sequence[Warning] = ()) -> Result:
    """Return the result of a simulation that has ended.

    Args:
        trace: Requests of the run.
        cluster: Cluster that served them.
        metrics: What the metrics leave out and count.
        notes: Warnings about the input.
    """
    stays = cluster.gateway.stays.stays()
    table = _request_table(trace, cluster, stays)
    injector = cluster.fault_injector
    faults = FaultResult() if injector is None else FaultResult(injector.spans, injector.tokens_lost)
    status = np.full(len(trace), NOT_ARRIVED)
    replicas = []
    restart_s = _last_failure_s(stays, len(trace)) if injector is not None and injector.restarts else None
    for spec, run, reason in zip(cluster.specs, cluster.runs, cluster.stuck_reasons, strict=True):
        replicas.append(_replica_result(spec, run, reason, table, restart_s))
        left = [*run.replica.waiting, *run.replica.running]
        status[left] = UNFINISHED if run.cut_off else STUCK
    if any(replica.caches_prefixes for replica in replicas):
        table |= cached_tokens(replicas, len(trace))
    status[table["ignored"] == 1] = IGNORED
    status[~np.isnan(table["completed_s"])] = FINISHED
    end_s = float(cluster.end_s)
    if injector is not None:
        status[cluster.gateway.queue] = UNFINISHED if injector.cut_off else STUCK
        status[injector.lost] = LOST
        end_s = _last_event_s(table["arrival_s"][status != NOT_ARRIVED], replicas, stays)
    end_s = max([end_s, *(float(replica.delivered_s.max(initial=0.0)) for replica in replicas)])
    _fill_down_time(replicas, faults, float(np.nanmin(table["arrival_s"])), end_s)
    return Result(
        table,
        status,
        replicas,
        _mark_finishes_while_waiting(stays, replicas, len(trace)),
        metrics,
        end_s=end_s,
        notes=[*notes, *trace.notes, *_idle_users(trace, table)],
        clients=trace.clients,
        num_skipped=trace.num_skipped,
        has_prefixes=trace.has_prefixes,
        num_broken_off=0 if cluster.follow_ups is None else cluster.follow_ups.num_broken_off,
        faults=faults,
    )


def request_ids(trace: Trace) -> NDArray[Any]:
    """Return the ids of the requests, as in requests.csv.

    Strings, or row numbers if the trace has none.
    """
    ids = trace.request_id
    if ids is None:
        return np.arange(len(trace))
    return ids if ids.dtype == object else ids.astype(str)


def _idle_users(trace: Trace, table: Table) -> Iterator[Warning]:
    """Yield a warning if users of a closed loop mostly think."""
    _, turn = trace.turns()
    starts = ~np.isnan(trace.arrival_s) if trace.arrival_s is not None else np.zeros(len(trace), dtype=bool)
    if starts.all() or starts[turn == 0].all():
        return  # no session waits for a user
    num_users, served = int(starts.sum()), ~np.isnan(table["completed_s"])
    if not served.any():
        return
    arrival_s, completed_s = table["arrival_s"][served], table["completed_s"][served]
    running = float((completed_s - arrival_s).sum() / (completed_s.max() - arrival_s.min()))
    if running < MIN_BUSY_USERS * num_users:
        yield Warning(
            "thinking_users",
            f"{running:.1f} of {num_users:,} users have a request running on average, the others think: a load "
            f"generator with a concurrency of {num_users:,} has arrival.think_s=0",
        )


def _request_table(trace: Trace, cluster: Cluster, stays: Stays) -> Table:
    """Return the table of all requests.

    Times and counts are filled in afterwards, replica by replica.
    """
    num_requests = len(trace)
    unknown = np.full(num_requests, np.nan)
    table: Table = {
        "request_id": request_ids(trace),
        "arrival_s": np.array(cluster.requests.arrival_s),
        "prompt_tokens": trace.prompt_tokens,
        # Not those of the trace: an engine may truncate an answer that does not fit.
        "output_tokens": np.array(cluster.requests.total_tokens) - trace.prompt_tokens,
        "first_scheduled_s": unknown.copy(),
        "first_token_s": unknown.copy(),
        "completed_s": unknown.copy(),
        "num_preemptions": np.zeros(num_requests, dtype=np.int64),
        "ignored": np.zeros(num_requests, dtype=np.int64),
        "replica": np.full(num_requests, NO_REPLICA),
    }
    table["replica"][stays.request] = stays.replica  # the last one
    table["replica"][cluster.gateway.queue] = NO_REPLICA
    if cluster.fault_injector is not None:
        table["num_retries"] = np.bincount(stays.request[stays.is_retry], minlength=num_requests)
    for name in ("session", "client", "priority"):
        if (column := getattr(trace, name)) is not None:
            table[name] = column
    return table


def _replica_result(
    spec: ReplicaSpec, run: ReplicaRun, reason: StuckReason | None, table: Table, restart_s: Floats | None
) -> ReplicaResult:
    """Return a replica's log as arrays, and fill its requests into `table`.

    Tokens that a request emitted until `restart_s`, seconds by request, do not count; None: all count.
    """
    replica, request_events = run.replica, run.replica.request_events
    logged = run.log.logged()
    admissions, known_tokens = np.split(request_events.admissions.rows(), [4], axis=1)
    needed = [replica.blocks_to_admit(num_tokens) for num_tokens in known_tokens.ravel().tolist()]
    events = RequestEventArrays(
        admissions=admissions,
        blocks_needed=np.array(needed, dtype=np.int64) - admissions[:, 3],
        prefill_ends=request_events.prefill_ends.rows(),
        finishes=request_events.finishes.rows(),
        preemptions=request_events.preemptions.rows(),
        evictions=_by_batch(request_events.evictions.rows()),
        decode_spans=decode_spans(replica),
    )
    _fill_first(table["first_scheduled_s"], events.admissions, logged.columns["schedule_s"])
    np.add.at(table["num_preemptions"], events.preemptions[:, 0], 1)
    table["ignored"][request_events.ignored] = 1
    result = ReplicaResult(
        logged=logged,
        request_events=events,
        stages=run.stages,
        num_blocks=replica.num_blocks,
        members=run.log.members(),
        stuck_reason="" if reason is None else reason.text(table["request_id"][reason.request]),
        provenance=spec.stage_times.provenance,
        placement=spec.placement,
        caches_prefixes=spec.prefix_caching,
        front_end=spec.front_end,
    )
    if restart_s is not None:
        result = result.with_tokens_after(restart_s)
    _fill_first(table["first_token_s"], result.request_events.prefill_ends, result.delivered_s)
    _fill_first(table["completed_s"], events.finishes, result.delivered_s)
    return result


def _by_batch(evictions: Ints) -> Ints:
    """Return the evictions with one row for each batch: int64[n, 2]."""
    batches, which = np.unique(evictions[:, 1], return_inverse=True)
    counts = np.zeros(len(batches), dtype=np.int64)
    np.add.at(counts, which, evictions[:, 0])
    return np.column_stack([counts, batches])


def _fill_first(column: NDArray[Any], events: Ints, times: Floats) -> None:
    """Fill in the time of each request's first event.

    An earlier time from another replica stays.
    """
    requests, first = np.unique(events[:, 0], return_index=True)
    column[requests] = np.fmin(column[requests], times[events[first, 1]])


def _last_failure_s(stays: Stays, num_requests: int) -> Floats:
    """Return when a failure last hit each request; -inf: never."""
    failed, last_s = stays.why == StayEnd.FAILED, np.full(num_requests, -np.inf)
    last_s[stays.request[failed]] = stays.left_s[failed]
    return last_s


def _mark_finishes_while_waiting(stays: Stays, replicas: Sequence[ReplicaResult], num_requests: int) -> Stays:
    """Return the stays, with finishes of waiting requests marked as such.

    Such a request was preempted while its last token was in flight.
    """
    was_running = stays.was_running.copy()
    for number, rows in rows_by_replica(stays.replica).items():
        events = replicas[number].request_events
        is_finished = stays.why[rows] == StayEnd.FINISHED
        finished, thrown_out = rows[is_finished], rows[stays.was_running[rows] & ~is_finished]
        left = np.append(events.preemptions[:, 0], stays.request[thrown_out])
        if len(left):
            num_admitted = np.bincount(events.admissions[:, 0], minlength=num_requests)
            is_admitted = num_admitted > np.bincount(left, minlength=num_requests)
            was_running[finished] = is_admitted[stays.request[finished]]
    return replace(stays, was_running=was_running)


def _last_event_s(arrival_s: Floats, replicas: Sequence[ReplicaResult], stays: Stays) -> float:
    """Return the time of the last event.

    Events are arrivals, ends of iterations, and begins and ends of stays.
    """
    ends_s = [replica.logged.end_s for replica in replicas]
    return float(np.nanmax(np.concatenate([arrival_s, stays.arrived_s, stays.left_s, *ends_s])))


def _fill_down_time(replicas: Sequence[ReplicaResult], faults: FaultResult, begin_s: float, end_s: float) -> None:
    for number, replica in enumerate(replicas):
        down_s = faults.down_s(number, begin_s, end_s)
        for stage in replica.stages:
            stage.down_s = down_s
