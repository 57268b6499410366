"""The timeline is a Perfetto trace that holds every iteration, count and request of a run."""

import csv
import itertools
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackDescriptor, TrackEvent

from simulator import Result, simulate
from simulator.config import load_config
from simulator.output import Files, write_result
from simulator.output.perfetto_trace import write_timeline
from simulator.results import FINISHED, IGNORED, NOT_ARRIVED, num_running, queue_length
from simulator.schedulers import VLLM
from tests.helpers import serve

RUNS = {
    "sarathi": ["trace=sharegpt", "trace.num_requests=40", "arrival.qps=2"],
    "a pipeline": ["model=yi_34b", "parallel.pp=3", "scheduler=vllm", "trace.num_requests=8", "arrival.qps=2"],
    "a cluster": [
        "cluster.replicas=3",
        "cluster.router=random",
        "trace=sharegpt",
        "trace.num_requests=40",
        "arrival.qps=9",
    ],
    "ignored and cut off": ["trace.num_requests=40", "model.max_model_len=6000", "time_limit_s=20", "arrival.qps=2"],
    "async scheduling": ["scheduler=vllm_v1", "trace=sharegpt", "trace.num_requests=20", "arrival.qps=5"],
    "sessions": ["trace=sharegpt_sessions", "arrival=closed_loop", "trace.num_requests=20"],
    "failures": [
        "trace=sharegpt",
        "trace.num_requests=40",
        "arrival.qps=6",
        "cluster.replicas=2",
        "faults.on_failure=lose",
        "faults.schedule=[{kind:failure,replica:0,at_s:3,for_s:2},{kind:slowdown,at_s:1,for_s:2,slowdown:2}]",
    ],
    "nothing": ["trace=fixed", "trace.num_requests=2", "trace.prompt_tokens=20000"],
}


@dataclass
class Slice:
    name: str
    begin_ns: int
    about: dict[str, Any]
    flows: list[int]
    ending_flows: list[int]
    end_ns: int = -1
    depth: int = 0


@dataclass
class Track:
    path: tuple[str, ...]
    slices: list[Slice] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)


def blocks_of(path: Path) -> list[list[Any]]:
    """Return the packets of a trace, in the blocks in which they were compressed."""
    outer = Trace.FromString(path.read_bytes())
    return [list(Trace.FromString(zlib.decompress(packet.compressed_packets)).packet) for packet in outer.packet]


def read(path: Path) -> list[Track]:
    """Return the tracks of a trace with events, in the order of their descriptors."""
    names: dict[str, dict[int, str]] = {}
    tracks: dict[int, Track] = {}
    is_open: dict[int, list[Slice]] = defaultdict(list)
    last_ns: dict[int, int] = defaultdict(int)
    for packet in (packet for block in blocks_of(path) for packet in block):
        if packet.sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
            names = {"event_names": {}, "debug_annotation_names": {}}
        for kind, known in names.items():
            for entry in getattr(packet.interned_data, kind):
                assert entry.iid not in known
                known[entry.iid] = entry.name
        if packet.HasField("track_descriptor"):
            described = packet.track_descriptor
            assert described.uuid not in tracks
            above = tracks[described.parent_uuid].path if described.uuid else ()
            tracks[described.uuid] = Track((*above, described.name) if described.uuid else ())
            continue
        event, track = packet.track_event, tracks[packet.track_event.track_uuid]
        assert last_ns[event.track_uuid] <= packet.timestamp
        last_ns[event.track_uuid] = packet.timestamp
        if event.type == TrackEvent.TYPE_COUNTER:
            track.counts.append((packet.timestamp, event.counter_value))
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            about = {
                names["debug_annotation_names"][entry.name_iid]: value_of(entry) for entry in event.debug_annotations
            }
            flows = list(event.flow_ids), list(event.terminating_flow_ids)
            begun = Slice(names["event_names"][event.name_iid], packet.timestamp, about, *flows)
            begun.depth = len(is_open[event.track_uuid])
            is_open[event.track_uuid].append(begun)
            track.slices.append(begun)
        else:
            assert event.type == TrackEvent.TYPE_SLICE_END
            is_open[event.track_uuid].pop().end_ns = packet.timestamp
    assert not any(is_open.values())
    return [track for track in tracks.values() if track.slices or track.counts]


def value_of(entry: Any) -> Any:
    if entry.dict_entries:
        return {value.name: value.int_value for value in entry.dict_entries}
    assert entry.HasField("int_value")
    return entry.int_value


def simulated(*overrides: str) -> Result:
    return simulate(**load_config(*overrides, "output.timeline=true"))


def tracks_of(result: Result, folder: Path) -> list[Track]:
    write_timeline(result, folder / "timeline")
    return read(folder / "timeline")


def ns(time_s: Any) -> list[Any]:
    times: list[Any] = np.rint(np.asarray(time_s) * 1e9).astype(np.int64).tolist()
    return times


def stages(tracks: list[Track]) -> Iterator[tuple[int, int, list[Slice]]]:
    """Yield replica, stage and slices of each stage."""
    for track in tracks:
        if track.path[-1].startswith("stage "):
            yield int(track.path[0].split()[1]), int(track.path[1].removeprefix("stage ")), track.slices


@pytest.mark.parametrize("name", RUNS)
def test_every_iteration_of_every_stage_is_there_to_the_nanosecond(name: str, tmp_path: Path) -> None:
    result = simulated(*RUNS[name])
    shown = list(stages(tracks_of(result, tmp_path)))
    places = [(number, stage) for number, log in enumerate(result.replicas) for stage in range(log.placement.pp)]
    assert [place for *place, _ in shown] == [
        list(place) for place in places if len(result.replicas[place[0]].logged.end_s)
    ]
    ids = result.requests["request_id"].tolist()
    for number, stage, slices in shown:
        replica = result.replicas[number]
        columns, members = replica.logged.columns, replica.members
        assert replica.stage_spans is not None
        assert members is not None
        assert [[span.begin_ns, span.end_ns] for span in slices] == ns(replica.stage_spans[:, stage])
        assert [span.about["iteration"] for span in slices] == list(range(len(members)))
        for key, column in (("decodes", "num_decodes"), ("context", "context_tokens"), ("free_blocks", "free_blocks")):
            assert [span.about[key] for span in slices] == columns[column].tolist()
        chunks = [{str(ids[request]): tokens for request, tokens, is_prompt in batch if is_prompt} for batch in members]
        assert [span.about.get("prefill", {}) for span in slices] == chunks
        for span, tokens, decodes in zip(slices, columns["num_prefill_tokens"], columns["num_decodes"], strict=True):
            parts = [f"{tokens} prompt"] * bool(tokens) + [f"{decodes} decode"] * bool(decodes)
            assert span.name == " + ".join(parts)


@pytest.mark.parametrize("name", RUNS)
def test_slices_of_a_stage_do_not_overlap(name: str, tmp_path: Path) -> None:
    for _, _, slices in stages(tracks_of(simulated(*RUNS[name]), tmp_path)):
        assert all(span.depth == 0 for span in slices)
        assert all(before.end_ns <= after.begin_ns for before, after in itertools.pairwise(slices))


@pytest.mark.parametrize("name", RUNS)
def test_counts_are_those_of_the_log(name: str, tmp_path: Path) -> None:
    result = simulated(*RUNS[name])
    counts = {track.path: track.counts for track in tracks_of(result, tmp_path) if track.counts}
    for (group, _), values in counts.items():
        assert all(before[1] != after[1] for before, after in itertools.pairwise(values)), group
    for number, replica in enumerate(result.replicas):
        columns = replica.logged.columns
        own = {path[1]: values for path, values in counts.items() if path[0].startswith(f"replica {number} ")}
        used = replica.num_blocks - columns["free_blocks"]
        assert counted(own.get("KV blocks", []), columns["schedule_s"]) == used.tolist()
        tokens = columns["num_prefill_tokens"] + columns["num_decodes"]
        # Iterations that were cut off begin and end at the same time, so the last of them counts.
        begins, last = np.unique(columns["start_s"][::-1], return_index=True)
        shown = begins < replica.logged.end_s[::-1][last]
        assert counted(own.get("tokens per batch", []), begins[shown]) == tokens[::-1][last][shown].tolist()
        for key, steps in (
            ("waiting requests", queue_length(result, [number])),
            ("running requests", num_running(result, number)),
        ):
            assert own.get(key, []) == list(zip(ns(steps.changes.time_s), steps.changes.value.tolist(), strict=True))


def counted(values: list[tuple[int, int]], at_s: Any) -> list[int]:
    """Return the counts at given times."""
    times_ns = [time_ns for time_ns, _ in values]
    return [values[index - 1][1] for index in np.searchsorted(times_ns, ns(at_s), side="right").tolist()]


def test_counts_are_zero_at_the_end(tmp_path: Path) -> None:
    counts = {track.path[1]: track.counts for track in tracks_of(simulated(*RUNS["sarathi"]), tmp_path) if track.counts}
    assert set(counts) == {"waiting requests", "running requests", "KV blocks", "tokens per batch"}
    assert all(values[-1][1] == 0 and min(values)[1] >= 0 for values in counts.values())


@pytest.mark.parametrize("name", RUNS)
def test_requests_are_those_of_requests_csv(name: str, tmp_path: Path) -> None:
    result = simulated(*RUNS[name])
    write_result(result, tmp_path, {}, Files(timeline=True))
    with open(tmp_path / "requests.csv", encoding="utf-8") as file:
        rows = [row for row, status in zip(csv.DictReader(file), result.status, strict=True) if status != NOT_ARRIVED]
    until_s = dict(zip(result.requests["request_id"].tolist(), result.known_until_s.tolist(), strict=True))
    lanes = [track for track in read(tmp_path / "timeline.perfetto-trace") if track.path[0] == "requests"]
    assert len(lanes) == len(rows)
    for lane, row in zip(lanes, rows, strict=True):
        whole, *phases = lane.slices
        assert whole.name.split()[:2] == ["request", row["request_id"]]
        assert all(phase.depth == 1 for phase in phases)
        arrival_s = float(row["arrival_s"])
        end_s = arrival_s if row["ignored"] == "1" else until_s[int(row["request_id"])]
        marks_s = [
            arrival_s,
            *(float(row[key] or end_s) for key in ("first_scheduled_s", "first_token_s", "completed_s")),
        ]
        marks = ns(marks_s)
        assert [whole.begin_ns, whole.end_ns] == [marks[0], marks[-1]]
        spans = zip(("queued", "prefill", "decode"), marks, marks[1:], strict=False)
        expected = [span for span in spans if span[2] > span[1]]
        assert [(phase.name, phase.begin_ns, phase.end_ns) for phase in phases] == expected
        columns = {key: int(row[key]) for key in ("prompt_tokens", "output_tokens", "replica") if row[key]}
        assert whole.about == columns


def test_requests_that_did_not_finish_say_so(tmp_path: Path) -> None:
    result = simulated(*RUNS["ignored and cut off"])
    lanes = [track.slices[0].name for track in tracks_of(result, tmp_path) if track.path[0] == "requests"]
    for status, text in ((IGNORED, "(ignored)"), (FINISHED, "")):
        ids = result.requests["request_id"][result.status == status].tolist()
        assert ids
        assert {f"request {number} {text}".strip() for number in ids} <= set(lanes)
    assert sum("(unfinished)" in name for name in lanes) == result.summary["num_unfinished"] > 0


@pytest.mark.parametrize("name", RUNS)
def test_a_flow_leads_from_a_request_to_its_iterations(name: str, tmp_path: Path) -> None:
    result = simulated(*RUNS[name])
    tracks = tracks_of(result, tmp_path)
    points: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # iteration, replica, stage
    ends: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for number, stage, slices in stages(tracks):
        for iteration, span in enumerate(slices):
            for flow in span.flows:
                points[flow].append((iteration, number, stage))
            for flow in span.ending_flows:
                ends[flow].append((iteration, number, stage))
    begun = [flow for track in tracks if track.path[0] == "requests" for flow in track.slices[0].flows]
    assert begun == [request + 1 for request in np.flatnonzero(result.status != NOT_ARRIVED)]
    assert set(points) | set(ends) <= set(begun)
    for flow in begun:
        expected, last = set(), []
        for number, replica in enumerate(result.replicas):
            events, final = replica.request_events, replica.placement.pp - 1
            limit = len(replica.logged.end_s)
            for rows, stage in ((events.admissions[:, :2], 0), (events.prefill_ends, final)):
                expected |= {(at, number, stage) for who, at in rows.tolist() if who == flow - 1 and at < limit}
            last += [(at, number, final) for who, at in events.finishes.tolist() if who == flow - 1]
        assert sorted(points[flow]) == sorted(expected - set(last))
        assert ends[flow] == last
        assert len(last) == (result.status[flow - 1] == FINISHED)


def test_the_flow_of_a_preempted_request_passes_each_admission(tmp_path: Path) -> None:
    result = serve([(0.0, 40, 60), (0.1, 40, 60), (0.2, 40, 60)], VLLM(), num_blocks=12)
    preempted, times = np.unique(result.replicas[0].request_events.preemptions[:, 0], return_counts=True)
    ((*_, slices),) = stages(tracks_of(result, tmp_path))
    # Admission and first token are in one iteration, also after a preemption.
    assert sum(int(preempted[0]) + 1 in span.flows for span in slices) == 1 + times[0]


def test_every_chunk_of_a_prompt_is_shown(tmp_path: Path) -> None:
    result = simulated(*RUNS["a pipeline"])
    computed: dict[str, int] = defaultdict(int)
    for span in next(stages(tracks_of(result, tmp_path)))[2]:
        for request, tokens in span.about.get("prefill", {}).items():
            computed[request] += tokens
    assert list(computed.values()) == result.requests["prompt_tokens"].tolist()


def test_faults_have_tracks_of_their_own(tmp_path: Path) -> None:
    result = simulated(*RUNS["failures"])
    shown = [
        (track.path[1], span.begin_ns, span.end_ns)
        for track in tracks_of(result, tmp_path)
        if track.path[-1] in ("failure", "slowdown")
        for span in track.slices
    ]
    assert sorted(set(shown)) == [("failure", 3 * 10**9, 5 * 10**9), ("slowdown", 10**9, 3 * 10**9)]


def test_tracks_are_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    write_timeline(simulated(*RUNS["a pipeline"]), tmp_path / "timeline")
    described = [
        packet.track_descriptor
        for block in blocks_of(tmp_path / "timeline")
        for packet in block
        if packet.HasField("track_descriptor")
    ]
    ordered = {track.uuid for track in described if track.child_ordering == TrackDescriptor.EXPLICIT}
    ranks = defaultdict(list)
    for track in described[1:]:
        if track.parent_uuid in ordered:
            ranks[track.parent_uuid].append((track.sibling_order_rank, track.name))
    assert described[0].uuid in ordered
    assert [name.split()[0] for _, name in ranks[described[0].uuid]] == ["requests", "replica"]
    (names,) = [[name for _, name in entries] for uuid, entries in ranks.items() if uuid != described[0].uuid]
    counters = ["waiting requests", "running requests", "KV blocks", "tokens per batch"]
    assert names == [*counters, "stage 0", "stage 1", "stage 2"]
    assert all([rank for rank, _ in entries] == list(range(len(entries))) for entries in ranks.values())


def test_a_block_needs_no_other_block_and_the_file_is_small(tmp_path: Path) -> None:
    result = simulated(*RUNS["a pipeline"])
    write_timeline(result, tmp_path / "timeline")
    blocks = blocks_of(tmp_path / "timeline")
    assert len(blocks) > 1
    for first, *rest in blocks:
        assert first.sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        assert all(packet.sequence_flags == TracePacket.SEQ_NEEDS_INCREMENTAL_STATE for packet in rest)
        assert {packet.trusted_packet_sequence_id for packet in (first, *rest)} == {1}
    num_slices = 3 * len(result.replicas[0].logged.end_s)
    assert (tmp_path / "timeline").stat().st_size < 25 * num_slices


def test_a_timeline_needs_the_members(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="log_members=True"):
        write_timeline(simulate(**load_config("trace.num_requests=2")), tmp_path / "timeline")
    assert not list(tmp_path.iterdir())
