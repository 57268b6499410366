"""Timeline of a run as a Perfetto trace, for ui.perfetto.dev."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.log import NO_REPLICA
from simulator.output.perfetto_file import Annotations, PerfettoFile
from simulator.results import (
    IGNORED,
    NOT_ARRIVED,
    STATUS_NAMES,
    ReplicaResult,
    Result,
    Steps,
    after_idle,
    blocks_used,
    num_running,
    queue_length,
)

_NS_PER_S = 1_000_000_000
_STATUS = {code: name.removeprefix("num_") for name, code in STATUS_NAMES.items()}
_ABOUT_REQUEST = ("prompt_tokens", "output_tokens", "replica")
_FIRST_FLOW = 1  # a flow per request; the format reserves 0

# Flows by iteration.
_Flows = dict[int, list[int]]


def write_timeline(result: Result, path: Path) -> None:
    """Write a run as a Perfetto trace.

    Each request has a slice with its phases. Each replica is a group: counters, a track per pipeline stage with a
    slice per iteration, and a track per kind of fault. A flow connects a request with the iterations that admit it,
    complete its prefill and emit its last token. One nanosecond of the trace is one of simulated time.

    Args:
        result: A run with logged members and stages.
        path: The file.

    Raises:
        OSError: The file cannot be written.
        ValueError: Members or stages were not logged.
    """
    if any(replica.members is None or replica.stage_spans is None for replica in result.replicas):
        raise ValueError("a timeline needs a run with log_members=True and log_stages=True")
    with open(path, "wb") as file:
        trace = PerfettoFile(file)
        _write_requests(result, trace)
        for number, replica in enumerate(result.replicas):
            gpus = replica.placement
            group = trace.add_group(f"replica {number} ({gpus.num_gpus} x {gpus.device}, TP{gpus.tp} PP{gpus.pp})")
            _write_counters(result, number, trace, group)
            for stage in range(gpus.pp):
                _write_stage(result, replica, stage, trace, trace.add_track(f"stage {stage}", group))
            _write_faults(result, number, trace, group)
        trace.flush()


def _write_requests(result: Result, trace: PerfettoFile) -> None:
    """Write a slice per request that arrived, and its phases."""
    table, track = result.requests, trace.add_track("requests")
    arrived = np.flatnonzero(result.status != NOT_ARRIVED)
    until_s = np.where(result.status == IGNORED, table["arrival_s"], result.known_until_s)
    names = ("first_scheduled_s", "first_token_s", "completed_s")
    ends_s = [np.where(np.isnan(table[name]), until_s, table[name]) for name in names]
    marks_ns = _nanoseconds(np.stack([table["arrival_s"], *ends_s], axis=1)[arrived])
    about = [table[name][arrived].tolist() for name in _ABOUT_REQUEST]
    ids = table["request_id"][arrived].tolist()
    for request, identity, marks, *values in zip(arrived.tolist(), ids, marks_ns, *about, strict=True):
        status = _STATUS[int(result.status[request])]
        name = f"request {identity}" if status == "finished" else f"request {identity} ({status})"
        lane = trace.add_lane("request", track)
        annotations = dict(zip(_ABOUT_REQUEST, values, strict=True))
        if annotations["replica"] == NO_REPLICA:
            del annotations["replica"]
        trace.begin(lane, marks[0], name, annotations, flows=[request + _FIRST_FLOW])
        for phase, begin, end in zip(("queued", "prefill", "decode"), marks[:-1], marks[1:], strict=True):
            if end > begin:
                trace.begin(lane, begin, phase)
                trace.end(lane, end)
        trace.end(lane, marks[-1])


def _write_counters(result: Result, number: int, trace: PerfettoFile, group: int) -> None:
    """Write every change of the counts of a replica."""
    counts = {
        "waiting requests": queue_length(result, [number]),
        "running requests": num_running(result, number),
        "KV blocks": blocks_used(result, number),
        "tokens per batch": _batch_tokens(result.replicas[number]),
    }
    for name, steps in counts.items():
        track, changes = trace.add_counter(name, group), steps.changes
        values = np.rint(changes.value).astype(np.int64).tolist()
        for time_ns, value in zip(_nanoseconds(changes.time_s), values, strict=True):
            trace.count(track, time_ns, value)


def _batch_tokens(replica: ReplicaResult) -> Steps:
    """Return the tokens of the current batch; 0 while nothing runs."""
    columns, end_s = replica.logged.columns, replica.logged.end_s
    tokens = columns["num_prefill_tokens"] + columns["num_decodes"]
    before_idle = np.append(after_idle(replica)[1:], True)[: len(end_s)]
    time_s = np.concatenate([columns["start_s"], end_s[before_idle]])
    value = np.concatenate([tokens, np.zeros(np.count_nonzero(before_idle))])
    order = np.argsort(time_s, kind="stable")
    return Steps(time_s[order], value[order])


def _write_stage(result: Result, replica: ReplicaResult, stage: int, trace: PerfettoFile, track: int) -> None:
    """Write a slice per iteration of a pipeline stage."""
    passing, ending = _flows(replica, stage, len(result.status))
    assert replica.stage_spans is not None
    spans_ns = _nanoseconds(replica.stage_spans[:, stage])
    for iteration, ((begin, end), (name, about)) in enumerate(zip(spans_ns, _batches(result, replica), strict=True)):
        trace.begin(track, begin, name, about, flows=passing.get(iteration, ()), ending_flows=ending.get(iteration, ()))
        trace.end(track, end)


def _batches(result: Result, replica: ReplicaResult) -> Iterator[tuple[str, Annotations]]:
    """Yield the name and the annotations of each iteration."""
    ids = [str(request) for request in result.requests["request_id"].tolist()]
    columns, members = replica.logged.columns, replica.members
    assert members is not None
    names = ("num_prefill_tokens", "num_decodes", "context_tokens", "free_blocks")
    values = zip(*(columns[name].tolist() for name in names), members, strict=True)
    for iteration, (prefill_tokens, decodes, context, free_blocks, batch) in enumerate(values):
        about: dict[str, int | dict[str, int]] = {"iteration": iteration}
        parts = []
        if prefill_tokens:
            about["prefill"] = {ids[request]: tokens for request, tokens, is_prompt in batch if is_prompt}
            parts.append(f"{prefill_tokens} prompt")
        if decodes:
            parts.append(f"{decodes} decode")
        about |= {"decodes": decodes, "context": context, "free_blocks": free_blocks}
        yield " + ".join(parts), about


def _flows(replica: ReplicaResult, stage: int, num_requests: int) -> tuple[_Flows, _Flows]:
    """Return the flows that pass through iterations, and those that end.

    A request is admitted in the first stage; the last one completes its prefill and emits its last token.
    """
    events, is_last = replica.request_events, stage == replica.placement.pp - 1
    tables = [events.admissions[: None if stage == 0 else 0], events.prefill_ends[: None if is_last else 0]]
    # One number per iteration and request: a request may be admitted, and complete its prefill, in one iteration.
    passing = np.concatenate([rows[:, 1] * num_requests + rows[:, 0] for rows in tables])
    finishes = events.finishes[: None if is_last else 0]
    ending = np.unique(finishes[:, 1] * num_requests + finishes[:, 0])
    return _by_iteration(np.setdiff1d(passing, ending), num_requests), _by_iteration(ending, num_requests)


def _by_iteration(points: NDArray[np.int64], num_requests: int) -> _Flows:
    flows: _Flows = defaultdict(list)
    for iteration, request in zip(*(values.tolist() for values in np.divmod(points, num_requests)), strict=True):
        flows[iteration].append(request + _FIRST_FLOW)
    return flows


def _write_faults(result: Result, number: int, trace: PerfettoFile, group: int) -> None:
    """Write the faults of a replica, a track per kind."""
    begin_s = float(np.nanmin(result.requests["arrival_s"]))
    tracks: dict[str, int] = {}
    for kind, first_s, last_s in result.faults.within(number, begin_s, result.end_s):
        if kind not in tracks:
            tracks[kind] = trace.add_track(kind, group)
        begin, end = _nanoseconds(np.array([first_s, last_s]))
        trace.begin(tracks[kind], begin, kind)
        trace.end(tracks[kind], end)


def _nanoseconds(time_s: NDArray[np.float64]) -> Any:
    return np.rint(time_s * _NS_PER_S).astype(np.int64).tolist()
