"""`python -m simulator.predict`: the time breakdown of one batch."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from simulator.config import load_config
from simulator.iteration_time import time_breakdown
from simulator.replica import Batch
from tests.helpers import A100, command


def predict(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "simulator.predict", *overrides)


def report_of(*overrides: str, prefill: list[tuple[int, int]], decode: list[tuple[int, int]]) -> dict[str, Any]:
    times = load_config(*overrides, "kv_cache.num_blocks=1")["deployment"].stage_times()
    return time_breakdown(times, A100, Batch.of(prefill, decode))


@pytest.mark.parametrize("iteration_time", ["profile", "roofline"])
@pytest.mark.parametrize("layout", [("parallel.tp=1", "parallel.pp=1"), ("parallel.tp=4", "parallel.pp=2")])
def test_operator_times_add_up_to_the_iteration(iteration_time: str, layout: tuple[str, str]) -> None:
    overrides = (f"iteration_time={iteration_time}", *layout)
    report = report_of(*overrides, prefill=[(512, 0), (64, 1000)], decode=[(32, 4000)])
    assert sum(row["seconds"] for row in report["operators"]) == pytest.approx(report["iteration_s"])
    assert sum(report["stages"]) == pytest.approx(report["iteration_s"])
    assert 0 < report["mfu"] < 1
    assert 0 < report["mbu"] < 1
    for row in report["operators"]:
        assert row["seconds"] == pytest.approx(row["seconds_per_layer"] * row["layers"])
        if row["flops"]:
            assert row["arithmetic_intensity"] == pytest.approx(row["flops"] / row["bytes"])
            assert row["bound"] == ("compute" if row["compute_s"] >= row["memory_s"] else "memory")


def test_prefill_is_compute_bound_and_decode_is_memory_bound() -> None:
    bound = {row["name"]: row["bound"] for row in report_of(prefill=[(2048, 0)], decode=[])["operators"]}
    assert bound["gate_up_proj"] == bound["prefill_attention"] == "compute"
    bound = {row["name"]: row["bound"] for row in report_of(prefill=[], decode=[(8, 2000)])["operators"]}
    assert bound["gate_up_proj"] == bound["decode_attention"] == "memory"


def test_the_command_prints_a_table_and_writes_the_prediction(tmp_path: Path) -> None:
    done = predict(
        tmp_path,
        "prefill=[[512,0]]",
        "decode=[[32,4000]]",
        "engine=none",
        "output.json=batch.json",
        "output.plot=a.svg",
    )
    assert "gate up proj" in (tmp_path / "a.svg").read_text()
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "batch.json").read_text())
    assert "decode_attention" in done.stdout
    assert "…" not in done.stdout
    assert {row["name"] for row in report["operators"]} >= {"qkv_proj", "prefill_attention", "lm_head", "host"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "batch.json"]


TOO_LONG = "a request has 17,000 tokens, and model.max_model_len=16,384: no engine would admit it"
TOO_LARGE = "the weights do not fit: 128.5 GiB per GPU with tp=1 pp=1, and a100_80gb has 80 GiB"


@pytest.mark.parametrize(
    ("overrides", "warnings"),
    [
        (["decode=[[1,16384]]", "prefill=[[384,16000]]"], []),
        (["decode=[[1,17000]]"], [TOO_LONG]),
        (["prefill=[[1000,16000],[8,0]]"], [TOO_LONG]),
        (["model=llama2_70b", "decode=[[1,100]]", "parallel.tp=2"], []),
        (["model=llama2_70b", "decode=[[1,100]]"], [TOO_LARGE]),
    ],
)
def test_what_no_engine_would_run_is_a_warning(tmp_path: Path, overrides: list[str], warnings: list[str]) -> None:
    done = predict(tmp_path, *overrides, "iteration_time=roofline", "engine=none", "output.json=x.json")
    shown = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert shown == [f"warning: {text}" for text in warnings]
    assert json.loads((tmp_path / "x.json").read_text())["warnings"] == warnings


def test_one_token_is_in_the_singular(tmp_path: Path) -> None:
    lines = predict(tmp_path, "decode=[[1,100]]", "iteration_time=roofline").stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("batch ")] == [["batch", "1", "token"]]


def test_the_help_says_that_the_scheduler_chooses_the_engine(tmp_path: Path) -> None:
    assert "scheduler=sarathi              chooses the engine and its kernels" in predict(tmp_path, "--help").stdout
    old, new = (predict(tmp_path, "decode=[[8,100]]", f"scheduler={name}").stdout for name in ("sarathi", "vllm_v1"))
    assert "engine       sarathi_serve" in old
    assert "engine       vllm_v1," in new


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "the batch is empty"),
        (["prefill=[[0,0]]"], "prefill[0][0] must be an integer from 1 to 1048576, got 0"),
        (["decode=[[1,2,3]]"], "decode[0] must be a pair [number of decodes, tokens of each], got [1, 2, 3]"),
        (["iteration_time=affine", "prefill=[[1,0]]"], "iteration_time: this model is not composed of operators"),
        (["parallel.tp=3", "prefill=[[1,0]]"], "parallel.tp=3 must divide the 32 query heads"),
        (["output.json=/nowhere/x.json", "prefill=[[1,0]]"], "cannot write to /nowhere/"),
        (["output.plot=batch.pdf", "prefill=[[1,0]]"], "output.plot: batch.pdf must end in .png or .svg"),
        (["output.json=x.json", "output.plot=x.txt", "prefill=[[1,0]]"], "output.plot: x.txt must end in .png or .svg"),
        (["output.plot=3", "prefill=[[1,0]]"], "output.plot must be the path of a file or null, got 3"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(tmp_path: Path, overrides: list[str], message: str) -> None:
    done = predict(tmp_path, *overrides)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())
