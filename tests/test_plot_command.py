"""`python -m simulator.plot`: which pictures there are of what."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.plot.__main__ import main
from tests.helpers import REPOSITORY, run_main, write_run


def command(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=False,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a pipeline, a cluster of groups, a sweep, capacities of both kinds and a search."""
    folder = tmp_path_factory.mktemp("written")
    few = ("trace=sharegpt", "trace.num_requests=12")
    write_run(folder / "run", *few)
    write_run(folder / "pipeline", "parallel.pp=2", "scheduler=vllm", *few)
    write_run(folder / "groups", "cluster.groups=[{device: a40},{scheduler: vllm}]", *few)
    wanted = [
        ("simulator", "-m", "hydra.sweep.dir=sweep", "scheduler=vllm,sarathi", "arrival.qps=1,2,4", *few),
        ("simulator.capacity", "hydra.run.dir=capacity", *few),
        ("simulator.capacity", "-m", "hydra.sweep.dir=bounds", "slo.tbt_p99=0.05,0.1,0.2", *few),
        ("simulator.capacity", "-m", "hydra.sweep.dir=named", "slo=strict,relaxed", "scheduler=vllm,sarathi", *few),
        ("simulator.search", "hydra.run.dir=search", "search.trials=4", "arrival.qps=1", "slo.tbt_p99=0.5", *few),
    ]
    for module, *arguments in wanted:
        done = command(folder, module, *arguments)
        assert done.returncode == 0, done.stderr
    return folder


RUN = ["latency", "stalls", "memory", "batches", "roofline"]
ONE = ["batches", "roofline"]


CASES = [
    (["run"], RUN),
    (["pipeline"], [*RUN, "pipeline"]),
    (
        ["run", "a b=pipeline"],
        [*RUN[:3], *(f"{one}_run" for one in ONE), *(f"{one}_a_b" for one in [*ONE, "pipeline"])],
    ),
    (["groups"], RUN),
    (["sweep"], ["load"]),
    (["capacity"], ["load"]),
    (["bounds"], ["capacity"]),
    (["named"], ["capacity"]),
    (["search"], ["pareto"]),
    (["run", "plots=stalls,batches"], ["batches", "stalls"]),
]


def test_there_are_pictures_of_all_that_is_written(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (inputs, pictures) in enumerate(CASES):
        folder = tmp_path / str(number)
        assert run_main(main, [*inputs, f"output={folder}", "format=png,svg"], written, monkeypatch) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        names = sorted(f"{one}.{kind}" for one in pictures for kind in ("png", "svg"))
        assert sorted(path.name for path in folder.iterdir()) == names
        assert sorted(Path(line).name for line in printed.out.splitlines()) == names


def test_it_is_a_command(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "trace.num_requests=5")
    done = command(tmp_path, "simulator.plot", "run", "plots=latency")
    assert (done.returncode, done.stdout, done.stderr) == (0, "plots/latency.png\n", "")


def broken(folder: Path) -> Iterator[tuple[list[str], str]]:
    run = str(folder / "run")
    yield [], "Draws pictures"
    yield ["nowhere"], "error: there is no folder nowhere"
    yield [run, "colour=red"], "error: colour=red: there is no run red, and colour is not an option"
    yield [run, "format=pdf"], "error: format=pdf: must be of png, svg"
    yield [run, "plots=pipeline"], "error: plots=pipeline: there are only latency, stalls, memory, batches, roofline"
    yield [run, "plots=nice"], "error: plots=nice: must be of latency, stalls"
    yield [run, "output="], "error: output= needs a value"
    yield [run, "--verbose"], "error: --verbose is not an option"
    yield [run, run], "error: two runs are named"
    yield ["."], "is no folder of a run, a sweep, a search or a capacity"
    (folder / "file").write_text("")
    yield [run, f"output={folder}/file"], "file is not a folder"
    yield [str(folder / "file")], "file is not a folder of a run"
    only = folder / "only_scheduler"
    only.mkdir()
    (only / "sweep.csv").write_text("job,folder,error\n0,nowhere,\n")
    yield [str(only)], "job.json cannot be read"
    (only / "sweep.csv").write_text("job,folder,error\n0,nowhere,went wrong\n")
    yield [str(only)], "no job of"
    job = {"overrides": ["scheduler=vllm"]}
    (only / "job.json").write_text(json.dumps(job))
    (only / "sweep.csv").write_text("job,folder,ttft_s.p90,error\n0,.,1.5,\n")
    yield [str(only), "plots=capacity"], "error: plots=capacity: there are only load of this"
    yield [str(only)], "the sweep did not vary arrival.qps"
    (only / "sweep.csv").unlink()
    (only / "capacity.json").write_text("[]")
    yield [str(only)], "capacity.json holds no JSON object"
    (only / "capacity.json").write_text(json.dumps({"slo": {}}))
    yield [str(only)], "capacity.json is not whole"


def test_mistakes_are_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", "trace.num_requests=5")
    for arguments, message in broken(tmp_path):
        out = f"output={tmp_path}/out"
        if arguments and not any(one.startswith("output=") for one in arguments):
            arguments = [*arguments, out]
        assert run_main(main, arguments, tmp_path, monkeypatch) == 2
        printed = capsys.readouterr()
        assert message in (printed.err if arguments else printed.out)
        assert len(printed.err.splitlines()) == (1 if arguments else 0)
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
