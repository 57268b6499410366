"""`python -m simulator.accuracy`: predicted against measured serving."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from joblib import Parallel, cpu_count, delayed
from rich.console import Console
from rich.progress import track

from simulator.accuracy import mlperf, silicon_sample, vllm_bench
from simulator.accuracy.points import Point, Skipped
from simulator.accuracy.predictions import Comparison, compare
from simulator.accuracy.report import print_report, write_points
from simulator.cli import run_command

HELP = f"""\
Simulates measured runs of vLLM, and prints how far predictions are from measurements. Nothing was fitted to them.

  python -m simulator.accuracy FOLDER [only=TEXT] [output=FOLDER] [bench=FOLDER KEY=VALUE ...]

  FOLDER         has the sets, or some of them:
                   {silicon_sample.FILE}: {silicon_sample.WHERE}
                   {mlperf.FILE}: {mlperf.WHERE}
  only=TEXT      only points whose set, model, device, layout, engine or load contains TEXT
  output=FOLDER  folder for one CSV file per set; default: accuracy
  bench=FOLDER   {vllm_bench.WHERE}, of the deployment that KEY=VALUE describe
                 (model=llama3_8b device=h100 scheduler=vllm_v1)

Exit status: 0, 2 for invalid input."""
_SETS = {silicon_sample.FILE: silicon_sample.points, mlperf.FILE: mlperf.points}


def main() -> None:
    """Run the command line."""
    run_command(_run, HELP)


def _run(arguments: Sequence[str], console: Console) -> None:
    options = {"only": "", "output": "accuracy", "bench": ""}
    folders, deployment = [], []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in options:
            options[name] = value
        elif equals:
            deployment.append(argument)
        else:
            folders.append(Path(argument))
    if deployment and not options["bench"]:
        raise ValueError(f"{deployment[0]} describes the deployment of bench=FOLDER, which is not given")
    items = list(_items(folders, options["bench"], deployment, console))
    points = [
        item for item in items if isinstance(item, Point) and any(options["only"] in label for label in item.labels)
    ]
    if not points:
        raise ValueError("there is no point to simulate; see --help")
    comparisons = _simulated(points)
    print_report(comparisons, [item for item in items if isinstance(item, Skipped)], console)
    _write(Path(options["output"]), comparisons, console)


def _simulated(points: Sequence[Point]) -> list[Comparison]:
    """Simulate the points on all cores, with a progress bar."""
    results = Parallel(n_jobs=cpu_count(), return_as="generator")(delayed(compare)(point) for point in points)
    shown = Console(stderr=True)
    return list(track(results, "simulated", len(points), console=shown, disable=not shown.is_terminal))


def _items(
    folders: Sequence[Path], bench: str, deployment: Sequence[str], console: Console
) -> Iterator[Point | Skipped]:
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder")
        for file, points in _SETS.items():
            if (folder / file).exists():
                yield from points(folder)
            else:
                console.print(f"{folder} has no {file}", style="dim", highlight=False)
    if bench:
        if not Path(bench).is_dir():
            raise ValueError(f"bench={bench} is not a folder")
        yield from vllm_bench.points(Path(bench), deployment)


def _write(folder: Path, comparisons: Sequence[Comparison], console: Console) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(comparison.point.dataset for comparison in comparisons):
        path = folder / f"{name.replace(' ', '_').lower()}.csv"
        write_points(path, [comparison for comparison in comparisons if comparison.point.dataset == name])
        console.print(f"written to {path}", style="dim", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
