"""The timeline follows the trace event format and shows what the run did."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import Result, simulate
from simulator.config import load_config
from simulator.output import chrome_trace as module
from simulator.output.chrome_trace import write_timeline
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
    "sessions": ["trace=sharegpt_sessions", "arrival=closed_loop", "trace.num_requests=20"],
    "nothing": ["trace.num_requests=2", "time_limit_s=0.001"],
}
# Fields of each phase in the format, besides ph, pid, tid and ts.
FIELDS = {
    "X": {"name", "dur", "args"},
    "C": {"name", "args"},
    "b": {"name", "cat", "id"},
    "e": {"name", "cat", "id"},
    "s": {"name", "cat", "id"},
    "t": {"name", "cat", "id"},
    "f": {"name", "cat", "id", "bp"},
}


def timeline_of(result: Result, path: Path) -> dict[str, Any]:
    write_timeline(result, path)
    content = json.loads(path.read_text())
    assert isinstance(content, dict)
    return content


def simulated(*overrides: str) -> Result:
    return simulate(**load_config(*overrides, "output.timeline=true"))


@pytest.mark.parametrize("name", RUNS)
def test_every_event_follows_the_format(name: str, tmp_path: Path) -> None:
    content = timeline_of(simulated(*RUNS[name]), tmp_path / "timeline.json")
    assert set(content) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert content["displayTimeUnit"] in ("ms", "ns")
    events = content["traceEvents"]
    names = [event for event in events if event["ph"] == "M"]
    timed = events[len(names) :]
    for event in names:
        assert set(event) == {"ph", "pid", "tid", "name", "args"}
        assert event["name"] in ("process_name", "thread_name", "process_sort_index")
    for event in timed:
        needed = {"ph", "pid", "tid", "ts"} | FIELDS[event["ph"]]
        assert needed <= set(event) <= needed | {"args"}
        assert all(type(event[field]) is int for field in ("pid", "tid"))
        assert event["ts"] >= 0
    times = [event["ts"] for event in timed]
    assert times == sorted(times)
    named = {(event["pid"], event["tid"]) for event in names if event["name"] == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in timed if event["ph"] == "X"} <= named


def by_track(events: list[dict[str, Any]]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append(event)
    return tracks


@pytest.mark.parametrize("name", RUNS)
def test_slices_of_a_track_do_not_overlap_and_flows_bind_to_them(name: str, tmp_path: Path) -> None:
    events = timeline_of(simulated(*RUNS[name]), tmp_path / "timeline.json")["traceEvents"]
    tracks = by_track(events)
    for slices in tracks.values():
        ends = [round(10 * (span["ts"] + span["dur"])) for span in slices]
        assert all(end <= round(10 * after["ts"]) for end, after in zip(ends, slices[1:], strict=False))
    flows = defaultdict(list)
    for event in events:
        if event["ph"] in "stf":
            flows[event["id"]].append(event["ph"])
            slices = tracks[event["pid"], event["tid"]]
            around = [span for span in slices if span["ts"] <= event["ts"] <= span["ts"] + span["dur"]]
            assert len(around) == 1
    for kinds in flows.values():
        assert kinds[0] == "s"
        assert kinds[-1] == "f"
        assert set(kinds[1:-1]) <= {"t"}


@pytest.mark.parametrize("name", RUNS)
def test_phases_of_requests_are_nested(name: str, tmp_path: Path) -> None:
    result = simulated(*RUNS[name])
    events = timeline_of(result, tmp_path / "timeline.json")["traceEvents"]
    open_phases: dict[int, list[str]] = defaultdict(list)
    begun = set()
    for event in events:
        if event["ph"] == "b":
            open_phases[event["id"]].append(event["name"])
            begun.add(event["id"])
        elif event["ph"] == "e":
            assert open_phases[event["id"]].pop() == event["name"]
    assert not any(open_phases.values())
    assert begun == set(np.flatnonzero(~np.isnan(result.requests["first_scheduled_s"])).tolist())


def test_slices_show_what_each_iteration_computed(tmp_path: Path) -> None:
    result = simulated(*RUNS["a pipeline"])
    events = timeline_of(result, tmp_path / "timeline.json")["traceEvents"]
    (replica,) = result.replicas
    spans, columns = replica.stage_spans, replica.logged.columns
    assert spans is not None
    for (pid, tid), slices in by_track(events).items():
        assert pid == 1
        stage = tid - 1
        assert [span["args"]["iteration"] for span in slices] == list(range(len(spans)))
        assert np.allclose([span["ts"] for span in slices], spans[:, stage, 0] * 1e6, atol=0.06)
        assert [span["args"]["decodes"] for span in slices] == columns["num_decodes"].tolist()
        assert [span["args"]["context"] for span in slices] == columns["context_tokens"].tolist()
        prefill = [sum(span["args"].get("prefill", {}).values()) for span in slices]
        assert prefill == columns["num_prefill_tokens"].tolist()
    computed: dict[str, int] = defaultdict(int)
    for span in by_track(events)[1, 1]:
        for request, tokens in span["args"].get("prefill", {}).items():
            computed[request] += tokens
    assert list(computed.values()) == result.requests["prompt_tokens"].tolist()


def test_counters_end_at_zero_and_reach_the_maximum_of_the_run(tmp_path: Path) -> None:
    result = simulated(*RUNS["sarathi"])
    counters = defaultdict(list)
    for event in timeline_of(result, tmp_path / "timeline.json")["traceEvents"]:
        if event["ph"] == "C":
            counters[event["name"]].append(event["args"]["value"])
    assert set(counters) == {"waiting requests", "running requests", "KV blocks"}
    assert all(values[-1] == 0 and min(values) == 0 for values in counters.values())
    most = result.summary["kv_use"]["max"] * result.replicas[0].num_blocks
    assert 0.98 * most <= max(counters["KV blocks"]) <= most


def test_the_flow_of_a_preempted_request_continues(tmp_path: Path) -> None:
    result = serve([(0.0, 40, 60), (0.1, 40, 60), (0.2, 40, 60)], VLLM(), num_blocks=12)
    preempted, times = np.unique(result.replicas[0].request_events.preemptions[:, 0], return_counts=True)
    request, count = int(preempted[0]), int(times[0])
    events = timeline_of(result, tmp_path / "timeline.json")["traceEvents"]
    kinds = [event["ph"] for event in events if event.get("id") == request and event["ph"] in "stf"]
    # A start for admission and first token in one iteration, a step after each preemption, and the end.
    assert kinds == ["s", *"t" * count, "f"]


@pytest.mark.parametrize("overrides", [[], ["scheduler=vllm", "model=yi_34b", "parallel.pp=4"]])
def test_too_many_iterations_are_joined_without_losing_any(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = ("trace=sharegpt", "trace.num_requests=20", "arrival.qps=2")
    result = simulated(*trace, *overrides)
    whole = by_track(timeline_of(result, tmp_path / "timeline.json")["traceEvents"])
    total = sum(map(len, whole.values()))
    for limit in (total // 2, total // 30):
        monkeypatch.setattr(module, "MOST_SLICES", limit)
        notes = write_timeline(result, tmp_path / "timeline.json")
        assert len(notes) == 1
        assert "joined" in notes[0]
        content = json.loads((tmp_path / "timeline.json").read_text())
        assert content["otherData"]["notes"] == notes
        joined = by_track(content["traceEvents"])
        for track, slices in joined.items():
            assert len(slices) < len(whole[track])
            assert sum(span["args"].get("iterations", 1) for span in slices) == len(whole[track])
            assert sum(span["args"]["decodes"] for span in slices) == sum(
                span["args"]["decodes"] for span in whole[track]
            )
            last, last_whole = slices[-1], whole[track][-1]
            assert last["ts"] + last["dur"] == pytest.approx(last_whole["ts"] + last_whole["dur"])
        assert max(len(slices) for slices in joined.values()) * len(joined) <= 1.2 * limit


LONG = {
    "decodes alone most of the time": ["trace=sharegpt", "arrival.qps=1"],
    "four stages and small chunks": ["model=yi_34b", "parallel.pp=4", "scheduler.token_budget=128", "arrival.qps=0.5"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_two_thousand_requests_stay_under_20_mb(name: str, tmp_path: Path) -> None:
    result = simulated(*LONG[name], "trace.num_requests=2000")
    write_timeline(result, tmp_path / "timeline.json")
    assert (tmp_path / "timeline.json").stat().st_size < 20e6


def test_thinned_counters_keep_their_last_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COUNTS", 40)
    notes = write_timeline(simulated(*RUNS["sarathi"]), tmp_path / "timeline.json")
    assert "counters show every" in notes[0]
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    counts = [event for event in events if event["ph"] == "C"]
    assert len(counts) <= 43
    last = {event["name"]: event["args"]["value"] for event in counts}
    assert set(last.values()) == {0}


def test_later_requests_of_a_long_run_have_no_flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REQUESTS", 5)
    result = simulated("trace.num_requests=9", "arrival.qps=1")
    notes = write_timeline(result, tmp_path / "timeline.json")
    assert notes == ["the first 5 of 9 requests have phases and flows"]
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    assert {event["id"] for event in events if "id" in event} == set(range(5))


def test_a_timeline_needs_the_members(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="log_members=True"):
        write_timeline(simulate(**load_config("trace.num_requests=2")), tmp_path / "timeline.json")
    assert not list(tmp_path.iterdir())
