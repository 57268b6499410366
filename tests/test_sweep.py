"""Sweeps: one table with any launcher, and finished jobs are not repeated."""

import csv
import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from simulator.cli.folder_lock import take
from simulator.cli.sweep import job_folder
from simulator.cli.sweep_table import print_table
from tests.helpers import REPOSITORY
from tests.helpers import command as run_command

QUICK = ["trace=fixed", "trace.num_requests=40", "iteration_time=affine", "slo=none", "slo.ttft_p90=1"]
SWEEP = ["-m", "scheduler=vllm,sarathi", "arrival=poisson,constant", *QUICK]
PLUGINS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
}


def run(folder: Path, *arguments: str, command: str = "simulator.capacity") -> subprocess.CompletedProcess[str]:
    return run_command(folder, command, *arguments)


def run_in_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a sweep in a separate process, because launchers keep their workers and working folder per process."""
    return subprocess.run(
        [sys.executable, "-m", "simulator.capacity", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=False,
    )


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((path / "sweep.csv").read_text().splitlines()))


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every result of a sweep, without the files of launchers."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".submitit" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name != "multirun.yaml"}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a sweep of four jobs, one after another, and return its folder."""
    folder = tmp_path_factory.mktemp("serial")
    done = run(folder, *SWEEP, "hydra.sweep.dir=sweep")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 jobs, results in sweep" in done.stdout
    assert "4 jobs, 0 failed" in done.stdout
    return folder / "sweep"


def test_a_sweep_writes_one_row_per_job(serial: Path) -> None:
    rows = table(serial)
    assert [row["job"] for row in rows] == ["0", "1", "2", "3"]
    assert [(row["scheduler"], row["arrival"]) for row in rows] == [
        ("vllm", "poisson"),
        ("vllm", "constant"),
        ("sarathi", "poisson"),
        ("sarathi", "constant"),
    ]
    for row in rows:
        written = json.loads((serial / row["folder"] / "capacity.json").read_text())
        assert float(row["capacity_qps"]) == written["capacity_qps"]
        assert row["binding"] == written["binding"]
        assert row["error"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", PLUGINS)
def test_every_launcher_gives_the_same_bytes(launcher: str, serial: Path, tmp_path: Path) -> None:
    if find_spec(PLUGINS[launcher]) is None:
        pytest.skip(f"{PLUGINS[launcher]} is not installed")
    done = run_in_process(tmp_path, *SWEEP, f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "sweep") == files(serial)


def test_a_resumed_sweep_runs_only_missing_jobs(serial: Path, tmp_path: Path) -> None:
    first_run = run(tmp_path, "-m", "scheduler=vllm", "arrival=poisson,constant", *QUICK, "hydra.sweep.dir=sweep")
    assert first_run.returncode == 0
    first = tmp_path / "sweep" / table(tmp_path / "sweep")[0]["folder"] / "capacity.json"
    before = first.stat().st_mtime_ns
    done = run(tmp_path, *SWEEP, "hydra.sweep.dir=sweep")
    assert done.returncode == 0
    assert done.stdout.count("already done") == 2
    assert first.stat().st_mtime_ns == before
    assert files(tmp_path / "sweep") == files(serial)


def test_a_changed_job_is_run_again_and_the_table_lists_only_the_jobs_of_the_sweep(tmp_path: Path) -> None:
    sweep = ["-m", "scheduler=vllm,orca", *QUICK, "hydra.sweep.dir=sweep"]
    assert run(tmp_path, *sweep).returncode == 0
    record = next((tmp_path / "sweep").glob("*orca*/job.json"))
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 7'))
    done = run(tmp_path, *sweep)
    assert done.stdout.count("already done") == 1
    assert run(tmp_path, "-m", "scheduler=orca", *QUICK, "hydra.sweep.dir=sweep").returncode == 0
    assert [row["scheduler"] for row in table(tmp_path / "sweep")] == ["orca"]


def test_a_failed_job_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "scheduler=vllm,orca", "slo.tbt_p99=1,-1", *QUICK, "hydra.sweep.dir=sweep")
    assert done.returncode == 2
    rows = table(tmp_path / "sweep")
    assert [bool(row["error"]) for row in rows] == [False, True, False, True]
    assert "slo.tbt_p99 must be" in rows[1]["error"]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: 2 jobs: {rows[1]['error']}"]
    fixed = run(tmp_path, "-m", "scheduler=vllm,orca", "slo.tbt_p99=1,2", *QUICK, "hydra.sweep.dir=sweep")
    assert fixed.returncode == 0
    assert fixed.stdout.count("already done") == 2


@pytest.mark.slow
def test_failures_in_other_processes_are_reported_too(tmp_path: Path) -> None:
    if find_spec(PLUGINS["joblib"]) is None:
        pytest.skip("hydra-joblib-launcher is not installed")
    done = run_in_process(tmp_path, "-m", "slo.tbt_p99=1,-1", *QUICK, "hydra/launcher=joblib", "hydra.sweep.dir=sweep")
    assert done.returncode == 2
    assert "slo.tbt_p99 must be" in done.stderr


def test_experiment_files_sweep_settings_of_one_scheduler(tmp_path: Path) -> None:
    sweep = ["-m", "experiment=orca_8,vllm_64,sarathi_2048", "trace=fixed", "trace.num_requests=20"]
    done = run(tmp_path, *sweep, "hydra.sweep.dir=sweep", command="simulator")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "sweep")
    assert [row["experiment"] for row in rows] == ["orca_8", "vllm_64", "sarathi_2048"]
    assert all(float(row["tbt_s.p99"]) > 0 for row in rows)


def test_a_job_whose_input_or_results_changed_is_run_again(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("prompt_tokens,output_tokens\n" + "10,5\n" * 30)
    sweep = ["-m", "scheduler=vllm,orca", "trace=csv", "trace.path=t.csv", "hydra.sweep.dir=sweep"]
    assert run(tmp_path, *sweep, command="simulator").returncode == 0
    next((tmp_path / "sweep").glob("*orca*/requests.csv")).unlink()
    assert run(tmp_path, *sweep, command="simulator").stdout.count("already done") == 1
    trace.write_text("prompt_tokens,output_tokens\n" + "900,5\n" * 30)
    assert run(tmp_path, *sweep, command="simulator").stdout.count("already done") == 0


def test_job_folders_may_be_nested(tmp_path: Path) -> None:
    sweep = ["-m", "slo.tbt_p99=1,-1", *QUICK, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=x/${hydra.job.num}"]
    done = run(tmp_path, *sweep)
    assert done.returncode == 2
    assert [row["folder"] for row in table(tmp_path / "sweep")] == ["x/0", "x/1"]


def test_only_one_sweep_at_a_time_may_use_a_folder(tmp_path: Path) -> None:
    release = take(tmp_path / "sweep")
    done = run(tmp_path, "-m", "scheduler=vllm", *QUICK, "hydra.sweep.dir=sweep")
    assert done.returncode == 2
    assert done.stderr == f"error: sweep is in use by process {os.getpid()} on {socket.gethostname()}\n"
    release()
    # A lock left by a killed process.
    (tmp_path / "sweep" / ".lock").write_text(f"process {os.getpid()} on {socket.gethostname()}")
    assert run(tmp_path, "-m", "scheduler=vllm", *QUICK, "hydra.sweep.dir=sweep").returncode == 0
    assert not (tmp_path / "sweep" / ".lock").exists()


def test_job_folders_are_named_after_their_overrides() -> None:
    assert job_folder("arrival.qps=1,scheduler=vllm") == "arrival.qps=1,scheduler=vllm"
    long, special = job_folder("a" * 300), job_folder("cluster.groups=[{device: a40}]")
    assert len(long) < 128
    assert not set(special) & set("[]{}: /")
    assert job_folder("a/b") != job_folder("a:b")


def test_options_of_one_policy_are_swept_beside_other_policies(tmp_path: Path) -> None:
    options = ("scheduler=vllm,sarathi", "scheduler.sarathi.token_budget=256,512", "scheduler.vllm.max_num_seqs=4")
    run_ = ("trace=fixed", "trace.num_requests=10", "iteration_time=affine", "hydra.sweep.dir=sweep")
    done = run(tmp_path, "-m", *options, *run_, command="simulator")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [
        (row["scheduler"], row["scheduler.max_num_seqs"], row["scheduler.token_budget"])
        for row in table(tmp_path / "sweep")
    ]
    assert rows == [("vllm", "4", ""), ("sarathi", "", "256"), ("sarathi", "", "512")]
    summary = json.loads((tmp_path / "sweep" / table(tmp_path / "sweep")[1]["folder"] / "summary.json").read_text())
    assert summary["config"]["scheduler"]["token_budget"] == 256
    # The table on the terminal: what was varied beside the main figures; what was not is above it.
    lines = done.stdout.splitlines()
    head = next(line for line in lines if line.startswith("job   "))
    assert head.split()[1:4] == ["scheduler", "scheduler.max_num_seqs", "scheduler.token_budget"]
    assert "TTFT p90," in lines[lines.index(head) - 1]
    assert any(line.startswith("all jobs: model=mistral_7b") for line in lines)
    assert not any("stages busy" in line for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_the_table_of_a_sweep_writes_objectives_as_a_single_run_does(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"job": 0, "scheduler": "a", "binding": "ttft_p90", "goodput": 1.0, "slo.met": True, "error": None},
        {"job": 1, "scheduler": "b", "binding": None, "goodput": 0.9, "slo.met": False, "error": None},
    ]
    records = [{"overrides": [f"scheduler={row['scheduler']}"], "config": {}} for row in rows]
    print_table(rows, records, Console())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["job", "scheduler", "goodput", "bound", "by", "SLO"] in lines
    assert ["0", "a", "100.0%", "TTFT", "p90", "met"] in lines
    assert ["1", "b", "90.0%", "-", "missed"] in lines


def test_values_of_one_policy_may_have_spaces_commas_and_braces(tmp_path: Path) -> None:
    chunks = "{stages: 2, low: 50, high: 100, max_tokens: 100},{stages: 3, low: 0.5, high: 100, max_tokens: 100}"
    options = ("scheduler=choice(sarathi,vllm)", f"scheduler.sarathi.dynamic_chunks={chunks}")
    rest = ("trace=fixed", "trace.num_requests=5", "iteration_time=affine", "hydra.sweep.dir=sweep")
    done = run(tmp_path, "-m", *options, *rest, command="simulator")
    rows = table(tmp_path / "sweep")
    assert [row["scheduler.dynamic_chunks"] for row in rows] == [
        *("{stages:2,low:50,high:100,max_tokens:100}", "{stages:3,low:0.5,high:100,max_tokens:100}", "")
    ]
    summary = json.loads((tmp_path / "sweep" / rows[0]["folder"] / "summary.json").read_text())
    assert summary["config"]["scheduler"]["dynamic_chunks"]["low"] == 50
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "scheduler.dynamic_chunks.low must be an integer" in line


def test_any_error_at_the_end_of_a_sweep_is_its_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no table today")

    monkeypatch.setattr("simulator.cli.sweep.write_table", fail)
    done = run(tmp_path, "-m", "seed=1,2", *QUICK, "hydra.sweep.dir=sweep", command="simulator")
    assert done.returncode == 2
    assert "no table today" in done.stderr


def test_an_error_of_several_jobs_is_printed_once(tmp_path: Path) -> None:
    rest = ("trace=fixed", "trace.num_requests=5", "iteration_time=affine", "hydra.sweep.dir=sweep")
    done = run(tmp_path, "-m", "parallel.tp=3", "seed=1,2,3", *rest, command="simulator")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: 3 jobs: parallel.tp=3 must divide")


def test_jobs_of_a_sweep_print_their_output_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SIMULATOR_VERBOSE", "")  # restored after the test
    arguments = ("trace=fixed", "trace.num_requests=5", "iteration_time=affine", "seed=1,2", "hydra.sweep.dir=sweep")
    done = run(tmp_path, "-m", "--verbose", *arguments, command="simulator")
    assert done.stdout.count("stages busy") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scheduler=vllm", "scheduler.orca.max_num_seqs=1,2"), "orca is not swept; write scheduler=orca,..."),
        (("scheduler=vllm,orca", "scheduler.orca.max_num_seqs=1,["), "is not an override"),
        (("scheduler=vllm,orca", "scheduler.orca.bla=1,2"), "scheduler.bla is not a key"),
    ],
)
def test_mistakes_in_options_of_a_policy_are_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    rest = ("trace=fixed", "trace.num_requests=5", "iteration_time=affine", "hydra.sweep.dir=sweep")
    done = run(tmp_path, "-m", *arguments, *rest, command="simulator")
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]
