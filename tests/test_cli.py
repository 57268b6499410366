"""The command line as users start it."""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.shipped import choices
from tests.helpers import REPOSITORY, command
from tests.recorded_schedules import COMMITTED
from tests.test_recorded_schedules import overrides_of

SMALL = ["trace=fixed", "trace.num_requests=20", "trace.output_tokens=8"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the simulator in a folder, in this process."""
    return command(folder, "simulator", *arguments)


def run_process(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the simulator in a folder, in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "simulator", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        check=False,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_main_command_writes_its_files_and_prints_its_figures(tmp_path: Path) -> None:
    done = run_process(tmp_path, "+scheduler=sarathi", "+trace=arxiv", "hydra.run.dir=out")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["log.npz", "requests.csv", "summary.json"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["num_finished"] == 512
    assert summary["config"]["scheduler"]["token_budget"] == 512
    assert f"{1e3 * summary['tbt_s']['p99']:.1f}" in done.stdout
    for text in ("512 finished", "requests/s", "time to first token", "KV cache", "stages busy", "preemptions"):
        assert text in done.stdout
    rows = rows_of(tmp_path / "out" / "requests.csv")
    assert len(rows) == 512
    makespan_s = max(float(row["completed_s"]) for row in rows) - min(float(row["arrival_s"]) for row in rows)
    assert makespan_s == summary["makespan_s"]


def test_files_are_written_below_outputs_by_default(tmp_path: Path) -> None:
    assert run(tmp_path, *SMALL).returncode == 0
    assert len(list(tmp_path.glob("outputs/*/*/summary.json"))) == 1


def test_the_same_seed_gives_the_same_bytes_in_every_folder(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder, hash_seed in zip(folders, ("1", "2"), strict=True):
        folder.mkdir()
        run_process(folder, "scheduler=vllm", "trace.num_requests=50", "hydra.run.dir=out", PYTHONHASHSEED=hash_seed)
    for name in ("summary.json", "requests.csv"):
        first, second = ((folder / "out" / name).read_bytes() for folder in folders)
        assert first == second


def test_another_seed_gives_another_result(tmp_path: Path) -> None:
    for seed in (1, 2):
        run(tmp_path, "trace.num_requests=50", f"seed={seed}", f"hydra.run.dir=out{seed}")
    assert (tmp_path / "out1/requests.csv").read_bytes() != (tmp_path / "out2/requests.csv").read_bytes()


@pytest.mark.parametrize("case", ["w1__sarathi__pp2__tight", "w1__vllm__pp2__tight", "edge_ignored__orca__pp1"])
def test_batches_csv_equals_the_recorded_schedule(tmp_path: Path, case: str) -> None:
    folder = COMMITTED / "golden" / case
    overrides = overrides_of(json.loads((folder / "case.json").read_text()), folder / "requests.csv")
    done = run(tmp_path, *overrides, "hydra.run.dir=out")
    assert done.returncode == 0, done.stderr
    simulated = rows_of(tmp_path / "out" / "batches.csv")
    with gzip.open(folder / "batches.csv.gz", "rt") as file:
        recorded = list(csv.DictReader(file))
    assert list(simulated[0]) == ["iteration", "start_s", "end_s", "request_id", "num_tokens", "phase", "replica"]
    for row, expected in zip(simulated, recorded, strict=True):
        assert [row[name] for name in ("iteration", "request_id", "num_tokens")] == [
            expected[name] for name in ("iteration", "request_id", "num_tokens")
        ]
        assert row["phase"] == ("prefill" if expected["is_prefill"] == "1" else "decode")
        assert float(row["end_s"]) == pytest.approx(float(expected["end_s"]), rel=0, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "named", "allowed"),
    [
        (["scheduler=nope"], "scheduler=nope", "faster_transformer, orca, sarathi, vllm"),
        (["+trace=nope"], "trace=nope", "arxiv, csv, empirical, file, fixed"),
        (["model=gpt5"], "model=gpt5", "mistral_7b"),
        (["cluster.router=nope"], "cluster.router=nope", "round_robin"),
        (["scheduler=null"], "scheduler=null", "sarathi"),
        (["scheduler.banana=3"], "scheduler.banana", "scheduler.token_budget"),
        (["+scheduler.banana=3"], "scheduler.banana", "scheduler.token_budget"),
        (["banana=3"], "banana", "kv_cache"),
        (["+banana=3"], "banana", "kv_cache"),
        (["cluster=3"], "cluster=3", "cluster.NAME=VALUE"),
        (["--banana"], "--banana", "--help"),
        (["banana"], "banana", "key=value"),
        (["=3"], "=3", "key=value"),
        (["scheduler=[a"], "scheduler=[a", "sarathi"),
        (["trace.path=[a"], "trace.path=[a", "key=value"),
        (["cluster.router=[a]"], "cluster.router=[a]", "round_robin"),
        (["--cfg", "foo"], "--cfg foo", "job, hydra, all"),
        (["--config-dir"], "--config-dir", "needs a value"),
        (["~seed"], "~seed", "give it a value"),
        (["arrival=closed_loop", "arrival.qps=3"], "arrival.qps", "arrival"),
        (["arrival.qps=1,2"], "arrival.qps=1,2", "--multirun"),
        (["time_limit_s=inf"], "time_limit_s", "finite number above 0"),
        (["scheduler.token_budget=0"], "scheduler.token_budget", "at least 1"),
        (["trace=csv", "trace.path=nowhere.csv"], "nowhere.csv", "No such file"),
        (["model=falcon_180b"], "falcon_180b", "80 GiB x 0.85"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_error_is_one_line_that_names_the_mistake_and_what_is_allowed(
    tmp_path: Path, arguments: list[str], named: str, allowed: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert allowed in line
    assert list(tmp_path.iterdir()) == []


def test_overload_and_stuck_requests_are_warnings_not_errors(tmp_path: Path) -> None:
    overload = run(tmp_path, "arrival.qps=50", "hydra.run.dir=overload")
    assert overload.returncode == 0
    assert "warning: overloaded" in overload.stdout
    assert json.loads((tmp_path / "overload/summary.json").read_text())["overloaded"] is True
    stuck = run(tmp_path, *SMALL, "kv_cache.num_blocks=10", "hydra.run.dir=stuck")
    assert stuck.returncode == 0
    assert "warning: 20 requests are stuck forever. Request 0 (1024 tokens) needs 64" in stuck.stdout


def test_a_pipe_gets_neither_a_progress_bar_nor_colours(tmp_path: Path) -> None:
    done = run_process(tmp_path, *SMALL)
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_help_explains_every_key(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    keys = (
        "scheduler trace arrival model device parallel.tp parallel.pp cluster.replicas cluster.router "
        "kv_cache.block_size kv_cache.num_blocks kv_cache.watermark kv_cache.memory_utilization iteration_time "
        "metrics.warmup_s metrics.zero_first_gap seed time_limit_s output.batches hydra.run.dir trace.path "
        "trace.num_requests arrival.qps model.max_model_len scheduler.token_budget scheduler.max_num_seqs "
        "scheduler.max_num_batched_tokens scheduler.dynamic_chunks"
    )
    for key in keys.split():
        assert key in done.stdout, key
    assert max(map(len, done.stdout.splitlines())) <= 110


@pytest.mark.parametrize(
    ("module", "group"),
    [
        *(("simulator", group) for group in ("scheduler", "model", "device", "engine", "iteration_time")),
        *(("simulator", group) for group in ("trace", "arrival", "cluster.router", "cluster.node")),
        ("simulator.capacity", "deployment"),
    ],
)
def test_help_names_every_shipped_choice(tmp_path: Path, module: str, group: str) -> None:
    shown = command(tmp_path, module, "--help").stdout
    listed = shown.partition(f"  {group}=")[2]
    listed = listed[: re.search(r"\n  \S|$", listed).start()]  # type: ignore[union-attr]
    aliases = {"csv"}  # same as trace=file
    assert set(choices(group)) - aliases - set(re.findall(r"\w+", listed)) == set()


def test_a_sweep_runs_every_combination_and_continues_after_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, "--multirun", "scheduler=vllm,orca", "arrival.qps=0,1", *SMALL, "hydra.sweep.dir=sweep")
    assert done.returncode == 2
    assert done.stderr == "error: 2 jobs: arrival.qps must be a number from 1e-6 to 1e9, or inf, got 0\n"
    assert len(list(tmp_path.glob("sweep/*/summary.json"))) == 2
