"""A saved run loads as if it had just been simulated."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import Result, simulate
from simulator.config import load_config
from simulator.output import Files, RunError, load_result, load_summary, write_result
from simulator.output.saved_run import LOG
from simulator.results import client_figures, queue_length
from simulator.schedulers import VLLM
from tests.helpers import serve
from tests.test_vllm_v1 import served

MIX = ("trace=mix", "trace.num_requests=40", "trace.clients.chat.slo.tbt_p99=0.2")
RUNS = {
    "a default run": ["trace.num_requests=30"],
    "a pipeline": ["parallel.pp=2", "model=yi_34b", "trace=sharegpt", "trace.num_requests=30", "arrival.qps=3"],
    "a cluster of two kinds": ["cluster.groups=[{device: a40, replicas: 2}, {}]", "trace.num_requests=30"],
    "sessions": ["trace=sharegpt_sessions", "arrival=closed_loop", "trace.num_requests=30"],
    "classes of clients": list(MIX),
    "cut off": ["trace.num_requests=30", "time_limit_s=20", "metrics.warmup_s=3"],
    "stuck": ["trace.num_requests=5", "kv_cache.num_blocks=50"],
    "nothing done": ["trace=fixed", "trace.num_requests=2", "trace.prompt_tokens=20000"],
}


def save(result: Result, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    write_result(result, folder, {"config": {}, "clients": client_figures(result)}, Files())
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_a_loaded_run_equals_the_simulated_one(name: str, tmp_path: Path) -> None:
    result = simulate(**load_config(*RUNS[name]))
    loaded = load_result(save(result, tmp_path))
    assert loaded.summary == result.summary
    assert client_figures(loaded) == client_figures(result)
    assert np.array_equal(loaded.status, result.status)
    for key, column in result.requests.items():
        assert np.array_equal(loaded.requests[key], column, equal_nan=column.dtype.kind == "f"), key
        assert loaded.requests[key].dtype == column.dtype, key
    assert list(loaded.requests) == list(result.requests)
    for replica, expected in zip(loaded.replicas, result.replicas, strict=True):
        for key, column in expected.iterations.items():
            assert np.array_equal(replica.iterations[key], column), key
        for key, events in vars(expected.request_events).items():
            assert np.array_equal(getattr(replica.request_events, key), events), key
        spans, expected_spans = replica.stage_spans, expected.stage_spans
        assert expected_spans is not None
        assert np.array_equal(spans, expected_spans)
        assert replica.placement == expected.placement
        assert replica.provenance == expected.provenance
    assert loaded.warnings == result.warnings
    assert load_summary(tmp_path)["ttft_s"] == result.summary["ttft_s"]


def test_the_same_run_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    logs = []
    for name in ("one", "two"):
        result = simulate(**load_config("trace.num_requests=10"))
        logs.append((save(result, tmp_path / name) / LOG).read_bytes())
    assert logs[0] == logs[1]


def test_preemptions_are_saved(tmp_path: Path) -> None:
    result = serve([(0.0, 40, 60), (0.1, 40, 60), (0.2, 40, 60)], VLLM(), num_blocks=12)
    loaded = load_result(save(result, tmp_path))
    assert loaded.summary == result.summary
    assert loaded.replicas[0].num_preemptions > 0


def test_the_time_of_a_preemption_that_formed_no_batch_is_saved(tmp_path: Path) -> None:
    requests = [(0.0, 4, 2), (0.0, 6, 1), (0.0, 1, 1)]
    tight = {"num_blocks": 10, "block_size": 1, "caching": False, "pp": 3}
    result = served(requests, **tight, long_prefill_token_threshold=2, scheduler_reserve_full_isl=False)
    assert len(result.replicas[0].logged.lone_preemptions) > 0
    loaded = load_result(save(result, tmp_path))
    times_s = np.linspace(0.0, result.end_s, 50)
    assert queue_length(loaded).at(times_s).tolist() == queue_length(result).at(times_s).tolist()


def test_a_folder_that_is_not_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no folder .*nowhere"):
        load_result(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"has no log.npz: run it again with output.log=true"):
        load_result(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file is not a folder of a run"):
        load_result(tmp_path / "file")


def test_a_run_loads_from_one_file(tmp_path: Path) -> None:
    result = simulate(**load_config(*MIX))
    run = save(result, tmp_path / "run")
    (run / "requests.csv").write_text("edited\n")
    (run / "summary.json").unlink()
    assert load_result(run).summary == result.summary
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / LOG).write_bytes((run / LOG).read_bytes())
    assert load_result(tmp_path / "alone").to_dataframe().equals(result.to_dataframe())


@pytest.mark.parametrize("content", [b"", b"PK", b"request_id,arrival_s\n0,0.0\n"])
def test_another_file_with_the_name_of_a_log_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(content)
    with pytest.raises(RunError, match=r"log.npz is damaged or not the log of a run: run it again$"):
        load_result(tmp_path)


def test_a_log_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    content = (save(simulate(**load_config("trace.num_requests=3")), tmp_path / "run") / LOG).read_bytes()
    for length in range(1, len(content), 997):
        (tmp_path / LOG).write_bytes(content[:length])
        with pytest.raises(RunError, match=r"log.npz is damaged or not the log of a run: run it again$"):
            load_result(tmp_path)


def test_a_bit_that_flipped_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    result = simulate(**load_config("trace.num_requests=3"))
    content = (save(result, tmp_path) / LOG).read_bytes()
    errors = []
    for position in range(0, len(content), len(content) // 200):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        (tmp_path / LOG).write_bytes(flipped)
        try:
            loaded = load_result(tmp_path)
        except RunError as error:
            errors.append(str(error))
            continue
        assert loaded.summary == result.summary
        assert loaded.to_dataframe().equals(result.to_dataframe())
    assert len(errors) > 150
    assert all(re.fullmatch(rf"{tmp_path}/log.npz [\w ]*: run it again", error) for error in errors)


@pytest.mark.parametrize("about", [{}, {"about": np.zeros(3)}, {"about": np.frombuffer(b'{"format": 6}', np.uint8)}])
def test_a_log_of_another_version_says_to_run_it_again(about: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / LOG, end_s=np.zeros(3), **about)
    with pytest.raises(RunError, match=r"log.npz (was written by another version .*|cannot be loaded, .*)run it again"):
        load_result(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("status", lambda status: status + 50, "status must be from 0 to 5"),
        ("end_s", lambda end_s: end_s[::-1], "the ends of its iterations are not in order"),
        ("end_s", lambda end_s: end_s * np.nan, "the ends of its iterations are not in order"),
        ("end_s", lambda end_s: end_s + 1e6, "the ends of its iterations are not in order"),
        ("end_s_size", lambda size: size - 1, "end_s: its sizes do not match the replicas"),
        ("finishes", lambda finishes: -1 - finishes, "finishes must be from 0 to 2"),
        ("prefill_ends", lambda prefill_ends: prefill_ends + 3, "prefill_ends must be from 0 to 2"),
        ("free_blocks", lambda free_blocks: free_blocks - 10**6, "free_blocks must be from 0 to"),
    ],
)
def test_a_file_made_by_hand_gives_no_wrong_figures(name: str, change: Any, message: str, tmp_path: Path) -> None:
    run = save(simulate(**load_config("trace.num_requests=3")), tmp_path)
    with np.load(run / LOG) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(run / LOG, **{**arrays, name: change(arrays[name])})
    with pytest.raises(RunError, match=f"cannot be loaded, run it again \\(ValueError: {message}"):
        load_result(run)


def test_a_log_holds_no_code(tmp_path: Path) -> None:
    run = save(simulate(**load_config("trace.num_requests=3")), tmp_path / "run")
    with np.load(run / LOG, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert all(array.dtype != object for array in arrays.values())
    np.savez(run / LOG, **{**arrays, "about": np.array([print], dtype=object)})
    with pytest.raises(RunError, match="is damaged or not the log of a run"):
        load_result(run)


def test_files_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    result = simulate(**load_config("trace.num_requests=3", "output.timeline=true"))
    write_result(result, tmp_path, {}, Files(batches=True, timeline=True, parquet=True))
    assert len(list(tmp_path.iterdir())) == 8
    write_result(result, tmp_path, {}, Files(log=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["requests.csv", "summary.json"]


def test_request_ids_stay_strings(tmp_path: Path) -> None:
    content = 'request_id,prompt_tokens,output_tokens\n0,5,5\n"a,\u00e9 ""b""",5,5\n'
    (tmp_path / "trace.csv").write_text(content, encoding="utf-8")
    result = simulate(**load_config("trace=file", f"trace.path={tmp_path}/trace.csv"))
    loaded = load_result(save(result, tmp_path / "run"))
    assert loaded.requests["request_id"].tolist() == result.requests["request_id"].tolist() == ["0", 'a,\u00e9 "b"']


def test_a_preempted_request_needs_its_prompt_first_and_more_later() -> None:
    result = serve([(0.0, 40, 60), (0.1, 40, 60), (0.2, 40, 60)], VLLM(), num_blocks=12)
    request_events = result.replicas[0].request_events
    readmissions = [
        index
        for index, request in enumerate(request_events.admissions[:, 0])
        if request in request_events.admissions[:index, 0]
    ]
    needed = request_events.blocks_needed.tolist()
    assert readmissions
    assert {needed[index] for index in range(len(needed)) if index not in readmissions} == {3}
    assert all(needed[index] > 3 for index in readmissions)
