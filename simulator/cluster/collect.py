"""Collection of a result from the logs.

This is the only file that imports both the simulation and the results.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.cluster.cluster import Cluster
from simulator.cluster.fault_injection import FaultInjector
from simulator.cluster.replica_spec import ReplicaSpec
from simulator.engine import ReplicaRun, StuckReason
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
    table = _request_table(trace, cluster)
    faults = _fault_result(cluster.fault_injector, table)
    status = np.full(len(trace), NOT_ARRIVED)
    replicas = []
    for spec, run, reason in zip(cluster.specs, cluster.runs, cluster.stuck_reasons, strict=True):
        replicas.append(_replica_result(spec, run, reason, table, faults.moved))
        left = [*run.replica.waiting, *run.replica.running]
        status[left] = UNFINISHED if run.cut_off else STUCK
    if any(replica.caches_prefixes for replica in replicas):
        table |= cached_tokens(replicas, len(trace))
    status[table["ignored"] == 1] = IGNORED
    status[~np.isnan(table["completed_s"])] = FINISHED
    end_s = float(cluster.clock.now)
    if cluster.fault_injector is not None:
        status[cluster.gateway.queue] = UNFINISHED if cluster.fault_injector.cut_off else STUCK
        status[cluster.fault_injector.lost] = LOST
        end_s = _last_event_s(table["arrival_s"][status != NOT_ARRIVED], replicas, faults)
    end_s = max([end_s, *(float(replica.delivered_s.max(initial=0.0)) for replica in replicas)])
    _fill_down_time(replicas, faults, float(np.nanmin(table["arrival_s"])), end_s)
    return Result(
        table,
        status,
        replicas,
        metrics,
        end_s=end_s,
        notes=[*notes, *trace.notes, *_idle_users(trace, table)],
        clients=trace.clients,
        num_skipped=trace.num_skipped,
        has_prefixes=trace.has_prefixes,
        num_broken_off=0 if cluster.follow_ups is None else cluster.follow_ups.num_broken_off,
        faults=faults,
    )


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


def _request_table(trace: Trace, cluster: Cluster) -> Table:
    """Return the table of all requests.

    Times and counts are filled in afterwards, replica by replica.
    """
    num_requests, ids = len(trace), trace.request_id
    unknown = np.full(num_requests, np.nan)
    table: Table = {
        # Strings, as in the file, even if the trace keeps them in a smaller type.
        "request_id": np.arange(num_requests) if ids is None else ids if ids.dtype == object else ids.astype(str),
        "arrival_s": np.array(cluster.requests.arrival_s),
        "prompt_tokens": trace.prompt_tokens,
        # Not those of the trace: an engine may truncate an answer that does not fit.
        "output_tokens": np.array(cluster.requests.total_tokens) - trace.prompt_tokens,
        "first_scheduled_s": unknown.copy(),
        "first_token_s": unknown.copy(),
        "completed_s": unknown.copy(),
        "num_preemptions": np.zeros(num_requests, dtype=np.int64),
        "ignored": np.zeros(num_requests, dtype=np.int64),
        "replica": np.array(cluster.gateway.assigned),
    }
    for name in ("session", "client", "priority"):
        if (column := getattr(trace, name)) is not None:
            table[name] = column
    return table


def _fault_result(injector: FaultInjector | None, table: Table) -> FaultResult:
    """Return the faults, and fill arrival times and retries into `table`."""
    if injector is None:
        return FaultResult()
    table["num_retries"] = np.zeros(len(table["arrival_s"]), dtype=np.int64)
    for column, by_request in (("num_retries", injector.num_retries), ("arrival_s", injector.first_arrival_s)):
        table[column][list(by_request)] = list(by_request.values())
    moves = np.array(injector.moves, dtype=np.float64).reshape(-1, 4)
    return FaultResult(injector.spans, moves, injector.tokens_lost)


def _replica_result(
    spec: ReplicaSpec, run: ReplicaRun, reason: StuckReason | None, table: Table, moved: Ints
) -> ReplicaResult:
    """Return a replica's log as arrays, and fill its requests into `table`."""
    replica, request_events = run.replica, run.replica.request_events
    logged = run.log.logged()
    admissions = _rows(request_events.admissions, 4)
    events = RequestEventArrays(
        admissions=admissions,
        blocks_needed=np.array(run.blocks_needed, dtype=np.int64) - admissions[:, 3],
        prefill_ends=_without_discarded(_rows(request_events.prefill_ends, 2), request_events.discards, 0),
        finishes=_rows(request_events.finishes, 2),
        preemptions=_rows(request_events.preemptions, 2),
        evictions=_rows(request_events.evictions, 2),
        decode_spans=_without_discarded(_rows(replica.decode_spans(), 4), request_events.discards, 1),
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
        moved=moved,
        front_end=spec.front_end,
    )
    _fill_first(table["first_token_s"], events.prefill_ends, result.delivered_s)
    _fill_first(table["completed_s"], events.finishes, result.delivered_s)
    return result


def _rows(rows: Sequence[tuple[int, ...]], width: int) -> Ints:
    return np.fromiter(chain.from_iterable(rows), np.int64, width * len(rows)).reshape(-1, width)


def _without_discarded(rows: Ints, discards: Sequence[tuple[list[int], int, int]], index: int) -> Ints:
    """Return the rows of tokens that count.

    Args:
        rows: Prefill ends or decode spans; the first column is the request.
        discards: `RequestEvents.discards`.
        index: Which count of a discard applies to the rows: 0 for prefill ends, 1 for decode spans.
    """
    is_kept = np.ones(len(rows), dtype=bool)
    for requests, *counts in discards:
        is_kept[: counts[index]] &= ~np.isin(rows[: counts[index], 0], requests)
    return rows[is_kept]


def _fill_first(column: NDArray[Any], events: Ints, times: Floats) -> None:
    """Fill in the time of each request's first event.

    An earlier time from another replica stays.
    """
    requests, first = np.unique(events[:, 0], return_index=True)
    column[requests] = np.fmin(column[requests], times[events[first, 1]])


def _last_event_s(arrival_s: Floats, replicas: Sequence[ReplicaResult], faults: FaultResult) -> float:
    """Return the time of the last event.

    Events are arrivals, ends of iterations, and failures that affected a request.
    """
    ends_s = [replica.logged.end_s for replica in replicas]
    return float(np.concatenate([arrival_s, faults.moves[:, 2], *ends_s]).max(initial=0.0))


def _fill_down_time(replicas: Sequence[ReplicaResult], faults: FaultResult, begin_s: float, end_s: float) -> None:
    for number, replica in enumerate(replicas):
        down_s = faults.down_s(number, begin_s, end_s)
        for stage in replica.stages:
            stage.down_s = down_s
