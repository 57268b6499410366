"""Chrome trace of a run, for Perfetto (ui.perfetto.dev) and chrome://tracing.

Format: Trace Event Format, JSON object form (Google, "Trace Event Format", 2016). Times are microseconds.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.log import KINDS
from simulator.results import ReplicaResult, Result, Steps, after_idle, blocks_used, num_running, queue_length

# Larger files slow viewers down. Above these limits, iterations are joined, counters are thinned, and later requests
# have no phases and flows.
MOST_SLICES = 60_000
MOST_COUNTS = 60_000
MOST_REQUESTS = 20_000
# Viewers may treat process or thread 0 as idle, so replicas and stages count from 1 here.
_FIRST = 1
# Ticks of 0.1 us: slices in integer ticks cannot overlap through rounding.
_TICKS_PER_S = 10_000_000

# Time in ticks, order at equal times, and the event.
Event = tuple[int, int, dict[str, Any]]
_ENDS, _COUNTS, _BEGINS, _FLOWS = range(4)


def write_timeline(result: Result, path: Path) -> list[str]:
    """Write a run as a Chrome trace.

    Each replica is a process with a track per pipeline stage and counters of its waiting requests, running requests
    and KV blocks. The process "requests" has the phases of each request. A flow connects the iterations that admit a
    request, complete its prefill and emit its last token.

    Args:
        result: A run with logged members and stages.
        path: The file.

    Returns:
        Notes on what was joined or left out.

    Raises:
        OSError: The file cannot be written.
        ValueError: Members or stages were not logged.
    """
    groups, notes = _joined(result)
    shown = np.flatnonzero(~np.isnan(result.requests["first_scheduled_s"]))
    if len(shown) > MOST_REQUESTS:
        notes.append(f"the first {MOST_REQUESTS:,} of {len(shown):,} requests have phases and flows")
        shown = shown[:MOST_REQUESTS]
    events: list[Event] = [*_phases(result, shown), *_counters(result, notes)]
    for number, firsts in enumerate(groups):
        events += _slices(result, number, firsts)
        events += _flows(result.replicas[number], number, shown)
        events += _faults(result, number)
    events.sort(key=lambda event: event[:2])
    with open(path, "w", encoding="utf-8") as file:
        about = json.dumps({"notes": notes, "time": "1 us of the trace is 1 us of simulated time"})
        file.write(f'{{"displayTimeUnit":"ms","otherData":{about},"traceEvents":[\n')
        lines = [*_names(result), *(_at(ticks, event) for ticks, _, event in events)]
        file.write(",\n".join(json.dumps(line, separators=(",", ":")) for line in lines))
        file.write("\n]}\n")
    return notes


def _at(ticks: int, event: dict[str, Any]) -> dict[str, Any]:
    return {"ts": ticks / 10, **event}


def _ticks(time_s: Any) -> Any:
    return np.rint(np.asarray(time_s) * _TICKS_PER_S).astype(np.int64).tolist()


def _names(result: Result) -> Iterator[dict[str, Any]]:
    """Yield the names and the order of processes and tracks."""
    names = {}
    for number, replica in enumerate(result.replicas):
        gpus = replica.placement
        names[number + _FIRST] = f"replica {number} ({gpus.num_gpus} x {gpus.device}, TP{gpus.tp} PP{gpus.pp})"
    names[_requests_pid(result)] = "requests"
    for pid, name in names.items():
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": {"sort_index": pid}}
    for number, replica in enumerate(result.replicas):
        for stage in range(replica.placement.pp):
            name = f"stage {stage}"
            yield {
                "ph": "M",
                "pid": number + _FIRST,
                "tid": stage + _FIRST,
                "name": "thread_name",
                "args": {"name": name},
            }
        for kind in sorted({fault.kind for fault in result.faults.spans if fault.replica == number}):
            track = replica.placement.pp + _FIRST + KINDS.index(kind)
            yield {"ph": "M", "pid": number + _FIRST, "tid": track, "name": "thread_name", "args": {"name": kind}}


def _requests_pid(result: Result) -> int:
    return len(result.replicas) + _FIRST


def _joined(result: Result) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Return the first iteration of each slice by replica, and notes.

    A slice is one iteration, or several if there would be too many slices.
    """
    replicas = result.replicas
    each = [np.arange(len(replica.logged.end_s)) for replica in replicas]
    if _num_slices(replicas, each) <= MOST_SLICES:
        return each, []
    changes = [np.flatnonzero(_changes(replica)) for replica in replicas]
    num_slices = _num_slices(replicas, changes)
    if num_slices <= MOST_SLICES:
        return changes, ["consecutive iterations of the same decodes alone are joined into one slice"]
    step = -(-num_slices // MOST_SLICES)
    firsts = [
        np.union1d(first[::step], np.flatnonzero(after_idle(replica)))
        for replica, first in zip(replicas, changes, strict=True)
    ]
    return firsts, [f"consecutive iterations are joined, {step} batches and more to a slice"]


def _num_slices(replicas: Sequence[ReplicaResult], firsts: Sequence[NDArray[np.int64]]) -> int:
    return sum(len(first) * replica.placement.pp for replica, first in zip(replicas, firsts, strict=True))


def _changes(replica: ReplicaResult) -> NDArray[np.bool_]:
    """Return whether each iteration differs from the previous one.

    It does if either has prefills, the number of decodes changed, or the replica was idle before it.
    """
    columns = replica.logged.columns
    prompts, decodes, decode_set = columns["num_prefills"] > 0, columns["num_decodes"], columns["decode_set"]
    change = prompts | np.append(True, prompts[:-1])
    for index in np.unique(decode_set):
        own = np.flatnonzero(decode_set == index)
        change[own] |= np.append(True, np.diff(decodes[own]) != 0)
    return np.asarray(change | after_idle(replica))


def _slices(result: Result, number: int, firsts: NDArray[np.int64]) -> Iterator[Event]:
    """Yield the iterations of a replica on the tracks of its stages."""
    replica = result.replicas[number]
    spans, members = replica.stage_spans, replica.members
    if spans is None or members is None:
        raise ValueError("a timeline needs a run with log_members=True and log_stages=True")
    if len(firsts) == 0:
        return
    columns, ids = replica.logged.columns, result.requests["request_id"]
    lengths = np.diff(firsts, append=len(replica.logged.end_s))
    prefill = np.add.reduceat(columns["num_prefill_tokens"], firsts).tolist()
    decodes = np.add.reduceat(columns["num_decodes"], firsts).tolist()
    context = columns["context_tokens"][firsts].tolist()
    begins, ends = _ticks(spans[firsts, :, 0]), _ticks(spans[firsts + lengths - 1, :, 1])
    for index, (first, length) in enumerate(zip(firsts.tolist(), lengths.tolist(), strict=True)):
        args: dict[str, Any] = {"iteration": first}
        if length > 1:
            args["iterations"] = length
        if prefill[index]:
            chunks = [(request, tokens) for request, tokens, is_prompt in members[first] if is_prompt]
            args["prefill"] = (
                {str(ids[request]): tokens for request, tokens in chunks} if length == 1 else prefill[index]
            )
        args |= {"decodes": decodes[index], "context": context[index]}
        name = _content(prefill[index], decodes[index], length)
        for stage, (begin, end) in enumerate(zip(begins[index], ends[index], strict=True)):
            dur = (end - begin) / 10
            yield (
                begin,
                _BEGINS,
                {"ph": "X", "pid": number + _FIRST, "tid": stage + _FIRST, "dur": dur, "name": name, "args": args},
            )


def _faults(result: Result, number: int) -> Iterator[Event]:
    """Yield the faults of a replica, on one track per kind."""
    begin_s = float(np.nanmin(result.requests["arrival_s"]))
    for kind, first_s, last_s in result.faults.within(number, begin_s, result.end_s):
        begin, end = _ticks(first_s), _ticks(last_s)
        track = result.replicas[number].placement.pp + _FIRST + KINDS.index(kind)
        slice_ = {"ph": "X", "pid": number + _FIRST, "tid": track, "dur": (end - begin) / 10, "name": kind, "args": {}}
        yield begin, _BEGINS, slice_


def _content(prefill_tokens: int, decodes: int, length: int) -> str:
    """Return the name of a slice: the tokens computed in it."""
    parts = [f"{prefill_tokens} prompt"] if prefill_tokens else []
    if decodes:
        parts.append(f"{decodes} decode" if length == 1 else f"{length} x {decodes / length:.3g} decode")
    return " + ".join(parts)


def _flows(replica: ReplicaResult, number: int, shown: NDArray[np.int64]) -> Iterator[Event]:
    """Yield the flow points of requests, each within a slice.

    These are admissions, completed prefills and last tokens.
    """
    request_events, spans, last = replica.request_events, replica.stage_spans, replica.placement.pp - 1
    if spans is None:
        return
    # An admission is in the first stage, an emitted token in the last. The set drops duplicates: a request may be
    # admitted, complete its prefill and finish in the same iteration.
    steps = {
        (request, iteration, stage)
        for events, stage in (
            (request_events.admissions, 0),
            (request_events.prefill_ends, last),
            (request_events.finishes, last),
        )
        for request, iteration, *_ in events[np.isin(events[:, 0], shown) & (events[:, 1] < len(spans))].tolist()
    }
    for request, own in groupby(sorted(steps), key=lambda step: step[0]):
        points = list(own)
        for index, (_, iteration, stage) in enumerate(points if len(points) > 1 else []):
            kind = "s" if index == 0 else "f" if index == len(points) - 1 else "t"
            begin, end = spans[iteration, stage]
            event = {
                "ph": kind,
                "pid": number + _FIRST,
                "tid": stage + _FIRST,
                "id": request,
                "name": "request",
                "cat": "request",
            }
            yield _ticks((begin + end) / 2), _FLOWS, event | ({"bp": "e"} if kind == "f" else {})


def _phases(result: Result, shown: NDArray[np.int64]) -> Iterator[Event]:
    """Yield the phases of each request: queued, prefill and decode.

    They are nested in a slice of the whole request.
    """
    table = result.requests
    ids = table["request_id"]
    known_until_s = result.known_until_s
    ends = {
        name: np.where(np.isnan(table[name]), known_until_s, table[name]) for name in ("first_token_s", "completed_s")
    }
    ticks = {name: _ticks(values[shown]) for name, values in ends.items()}
    arrival, scheduled = _ticks(table["arrival_s"][shown]), _ticks(table["first_scheduled_s"][shown])
    for index, request in enumerate(shown.tolist()):
        marks = (arrival[index], scheduled[index], ticks["first_token_s"][index], ticks["completed_s"][index])
        about = {
            "prompt_tokens": int(table["prompt_tokens"][request]),
            "output_tokens": int(table["output_tokens"][request]),
        }
        common = {"cat": "request", "id": request, "pid": _requests_pid(result), "tid": _FIRST}
        whole = {**common, "name": f"request {ids[request]}"}
        yield marks[0], _BEGINS, {"ph": "b", **whole, "args": about}
        for name, begin, end in zip(("queued", "prefill", "decode"), marks[:-1], marks[1:], strict=True):
            if end > begin:
                yield begin, _BEGINS, {"ph": "b", **common, "name": name}
                yield end, _ENDS, {"ph": "e", **common, "name": name}
        yield marks[-1], _COUNTS, {"ph": "e", **whole}


def _counters(result: Result, notes: list[str]) -> Iterator[Event]:
    """Yield the counters of all replicas.

    A note is added if changes are left out.
    """
    counters = [
        (number, name, steps) for number in range(len(result.replicas)) for name, steps in _counts(result, number)
    ]
    step = max(1, -(-sum(len(steps.value) for _, _, steps in counters) // MOST_COUNTS))
    if step > 1:
        notes.append(f"counters show every {step}. change")
    for number, name, steps in counters:
        # Every step-th change, counted from the last.
        kept = np.arange(len(steps.value) - 1, -1, -step)[::-1]
        for ticks, value in zip(_ticks(steps.time_s[kept]), steps.value[kept].tolist(), strict=True):
            yield (
                ticks,
                _COUNTS,
                {"ph": "C", "pid": number + _FIRST, "tid": 0, "name": name, "args": {"value": round(value)}},
            )


def _counts(result: Result, number: int) -> Iterator[tuple[str, Steps]]:
    """Yield the counters of a replica as step functions.

    KV blocks are shown only at decisions and when idle.
    """
    replica = result.replicas[number]
    used, decided = blocks_used(result, number), replica.logged.runs[:, 0].astype(np.int64)
    shown = np.isin(used.time_s, replica.logged.columns["schedule_s"][decided]) | (used.value == 0)
    yield "waiting requests", queue_length(result, [number]).changes
    yield "running requests", num_running(result, number).changes
    yield "KV blocks", Steps(used.time_s[shown], used.value[shown]).changes
