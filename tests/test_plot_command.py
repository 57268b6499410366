"""`python -m simulator.plot`: the pictures of runs, sweeps, searches and capacities."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.output import parse
from simulator.plot.__main__ import main
from simulator.plot.sweep_files import Job, capacity_curves, overloaded_loads, read_sweep
from simulator.report.__main__ import main as report
from tests.helpers import REPOSITORY, code_blocks, command, run_main, write_run

SHOWN = [line for block in code_blocks("docs/seeing.md", "bash") for line in block.splitlines()]
FEW = ("trace.num_requests=12",)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runs that the documentation draws (on few requests), a cluster and more capacities."""
    folder = tmp_path_factory.mktemp("written")
    write_run(folder / "groups", "cluster.groups=[{device: a40},{scheduler: vllm}]", "trace=sharegpt", *FEW)
    capacity = ("simulator.capacity", "trace=sharegpt")
    wanted = [
        (*capacity, "hydra.run.dir=capacity"),
        (*capacity, "hydra.run.dir=seeds", "capacity.seeds=2"),
        (*capacity, "-m", "hydra.sweep.dir=named", "slo=strict,relaxed", "scheduler=vllm,sarathi"),
    ]
    for line in SHOWN:
        _, _, module, *arguments = shlex.split(line)
        if "search.trials=40" in arguments:
            arguments[arguments.index("search.trials=40")] = "search.trials=4"
        if module == "simulator" and "-m" not in arguments:
            (run_dir,) = [argument for argument in arguments if argument.startswith("hydra.run.dir=")]
            arguments.remove(run_dir)
            write_run(folder / run_dir.partition("=")[2], *arguments, *FEW)
        elif module not in ("simulator.plot", "simulator.report"):
            wanted.append((module, *arguments))
    assert len(wanted) == 7
    for module, *arguments in wanted:
        few = () if module == "simulator.predict" else FEW
        done = command(folder, module, *arguments, *few)
        assert done.returncode == 0, done.stderr
    return folder


RUN = ["latency", "stalls", "memory", "batches", "roofline"]
PER_RUN = ["batches", "roofline"]
CASES = [
    (["outputs/vllm"], RUN),
    (["outputs/pipeline"], [*RUN, "pipeline"]),
    (
        ["outputs/vllm", "a b=outputs/pipeline"],
        [*RUN[:3], *(f"{name}_vllm" for name in PER_RUN), *(f"{name}_a_b" for name in [*PER_RUN, "pipeline"])],
    ),
    (["groups"], RUN),
    (["outputs/load"], ["load"]),
    (["capacity"], ["load"]),
    (["outputs/bounds"], ["capacity"]),
    (["named"], ["capacity"]),
    (["outputs/search"], ["pareto"]),
    (["seeds"], ["load"]),
    (["outputs/load", "again=outputs/load", "capacity"], ["load_load", "load_again", "load_capacity"]),
    (["a b=outputs/vllm", "a_b=groups"], [*RUN[:3], "batches_a_b", "batches_a_b_2", "roofline_a_b", "roofline_a_b_2"]),
    (["outputs/vllm", "plots=stalls,batches"], ["batches", "stalls"]),
]


@pytest.mark.slow
def test_every_plot_of_the_documentation_can_be_drawn(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mains = {"simulator.plot": main, "simulator.report": report}
    drawn = [line for line in SHOWN if line.split()[2] in mains]
    assert len(drawn) == 7
    for line in drawn:
        _, _, module, *arguments = shlex.split(line)
        assert run_main(mains[module], arguments, written, monkeypatch) == 0
    folders = [written / "outputs" / name for name in ("plots", "pipeline_plots", "sweep_plots")]
    pictures = {path.name for folder in folders for path in folder.iterdir()}
    for picture in (*RUN[:3], "batches_sarathi", "pipeline", "roofline", "load", "capacity", "pareto"):
        assert f"{picture}.png" in pictures
        assert (REPOSITORY / "docs" / "figures" / f"{picture}.png").exists()
    assert (written / "outputs" / "sarathi" / "timeline.perfetto-trace").exists()


@pytest.mark.slow
def test_every_kind_of_folder_gets_its_pictures(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (inputs, pictures) in enumerate(CASES):
        folder = tmp_path / str(number)
        assert run_main(main, [*inputs, f"output={folder}", "format=png,svg"], written, monkeypatch) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        names = sorted(f"{picture}.{kind}" for picture in pictures for kind in ("png", "svg"))
        assert sorted(path.name for path in folder.iterdir()) == names
        assert sorted(Path(line).name for line in printed.out.splitlines()) == names


def test_paths_are_printed_unchanged_and_missing_pictures_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", "trace.num_requests=5")
    arguments = ["run", "plots=latency,pipeline", "output=x[red]/[/y]"]
    assert run_main(main, arguments, tmp_path, monkeypatch) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["x[red]/[/y]/latency.png", "warning: pipeline is left out: these inputs do not have it"]


def test_failed_jobs_are_reported_and_runs_of_a_sweep_are_named_by_their_differences(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = (written / "outputs" / "vllm" / "summary.json").read_text()
    rows = ["job,folder,ttft_s.p90,overloaded,error"]
    for number, qps in enumerate((1, 2, 3, -1)):
        folder = tmp_path / "sweep" / f"arrival.qps={qps},scheduler=vllm"
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps({"overrides": [f"arrival.qps={qps}", "scheduler=vllm"]}))
        (folder / "summary.json").write_text(summary)
        error = "went wrong" if qps < 0 else ""
        rows.append(f'{number},"{folder.name}",{0.1 * qps},{qps == 3},{error}')
    (tmp_path / "sweep" / "sweep.csv").write_text("\n".join(rows) + "\n")
    assert run_main(main, ["sweep"], tmp_path, monkeypatch) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "warning: 1 of 4 jobs of sweep failed and are left out"
    jobs, num_failed = read_sweep(tmp_path / "sweep")
    assert (len(jobs), num_failed) == (3, 1)
    assert overloaded_loads(jobs) == {"": [3.0]}
    folders = sorted(str(path) for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert list(parse(folders, {})[0]) == [f"arrival.qps={qps}" for qps in (-1, 1, 2, 3)]


def test_other_bounds_that_vary_are_in_the_curve_names(tmp_path: Path) -> None:
    jobs = []
    for tbt in (0.05, 0.1, 0.2):
        for ttft in (1, 2, 3):
            folder = tmp_path / f"{tbt}_{ttft}"
            folder.mkdir()
            (folder / "capacity.json").write_text(json.dumps({"slo": {"tbt_p99": tbt, "ttft_p50": ttft}}))
            overrides = {"slo.tbt_p99": str(tbt), "slo.ttft_p50": str(ttft)}
            jobs.append(Job(overrides, {"capacity_qps": str(tbt * ttft)}, folder))
    curves = capacity_curves(jobs)
    assert curves is not None
    assert curves.objective == "tbt_p99"
    assert curves.curves["slo.ttft_p50=2"] == [(0.05, 0.1), (0.1, 0.2), (0.2, 0.4)]
    assert len(curves.curves) == 3


def test_plot_runs_as_a_command(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "trace.num_requests=5")
    done = command(tmp_path, "simulator.plot", "run", "plots=latency")
    assert (done.returncode, done.stdout, done.stderr) == (0, "plots/latency.png\n", "")


def mistakes(folder: Path) -> Iterator[tuple[list[str], str]]:
    run = str(folder / "run")
    yield [], "no arguments; see --help"
    yield ["nowhere"], "error: there is no folder nowhere"
    yield [run, "colour=red"], "error: colour=red: there is no run red, and colour is not an option"
    yield [run, "format=pdf"], "error: format=pdf: must be one or more of png, svg"
    yield [run, "plots=pipeline"], "error: plots=pipeline: not available; these inputs have latency, stalls, memory"
    yield [run, "plots=nice"], "error: plots=nice: must be one or more of latency, stalls"
    yield [run, "output="], "error: output= needs a value"
    yield [run, "--verbose"], "error: --verbose is not an option"
    yield [run, run], "error: two runs are named"
    yield [f"={run}"], "has no name before the ="
    yield ["."], "is not a folder of a run, a sweep, a search or a capacity"
    (folder / "file").write_text("")
    yield [run, f"output={folder}/file"], "file is not a folder"
    yield [str(folder / "file")], "file is not a folder of a run"
    sweep = folder / "only_scheduler"
    sweep.mkdir()
    (sweep / "sweep.csv").write_text("job,folder,error\n0,nowhere,\n")
    yield [str(sweep)], "job.json cannot be read"
    (sweep / "sweep.csv").write_text("job,folder,error\n0,nowhere,went wrong\n")
    yield [str(sweep)], "no job of"
    job = {"overrides": ["scheduler=vllm"]}
    (sweep / "job.json").write_text(json.dumps(job))
    (sweep / "sweep.csv").write_text("job,folder,ttft_s.p90,error\n0,.,1.5,\n")
    yield [str(sweep), "plots=capacity"], "error: plots=capacity: not available; these inputs have load"
    yield [str(sweep)], "the sweep did not vary arrival.qps"
    (sweep / "sweep.csv").unlink()
    (sweep / "capacity.json").write_text("[]")
    yield [str(sweep)], "capacity.json holds no JSON object"
    (sweep / "capacity.json").write_text(json.dumps({"slo": {}}))
    yield [str(sweep)], "capacity.json is incomplete: it has no trials"
    (sweep / "capacity.json").write_text(json.dumps({"slo": {}, "trials": [1], "capacity_qps": 1}))
    yield [str(sweep)], "capacity.json has malformed trials"
    (folder / "run" / "summary.json").write_text('{"ttft_s": 1}')
    yield [run], "summary.json is incomplete: it has no tbt_s"


def test_mistakes_are_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", "trace.num_requests=5")
    for arguments, message in mistakes(tmp_path):
        out = f"output={tmp_path}/out"
        if arguments and not any(argument.startswith("output=") for argument in arguments):
            arguments = [*arguments, out]
        assert run_main(main, arguments, tmp_path, monkeypatch) == 2
        printed = capsys.readouterr()
        assert message in printed.err
        assert len(printed.err.splitlines()) == 1
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
