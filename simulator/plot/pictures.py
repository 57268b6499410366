"""Which pictures there are of a finished run, sweep or search."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from simulator import plots
from simulator.plot.batches import typical_batches
from simulator.plot.tables import (
    capacity_bars,
    capacity_curves,
    load_series,
    priced_points,
    read_json,
    read_sweep,
    trial_series,
)
from simulator.result import Result
from simulator.run_arguments import UsageError
from simulator.saved_run import SUMMARY, load_result, load_summary

# By the name of the file that it gets. Only those that are asked for are drawn.
Pictures = Mapping[str, Callable[[], Figure]]
OF_RUNS = ("latency", "stalls", "memory")
OF_EACH_RUN = ("batches", "pipeline", "roofline")
OF_SWEEPS = ("load", "capacity", "pareto")


def pictures_of(paths: Mapping[str, Path]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield names of pictures, and what draws them.

    Args:
        paths: Folders by name: of runs, which are drawn together, sweeps, searches and capacities.

    Raises:
        UsageError: A folder is none of these.
        RunError: A run cannot be loaded.
    """
    runs = {}
    for name, path in paths.items():
        if (path / "sweep.csv").is_file():
            yield from _of_sweep(path)
        elif (path / "search.json").is_file():
            yield "pareto", partial(_pareto, path)
        elif (path / "capacity.json").is_file():
            yield "load", partial(_trials, path)
        elif path.is_dir() and not (path / SUMMARY).exists():
            raise UsageError(f"{path} is no folder of a run, a sweep, a search or a capacity")
        else:
            runs[name] = path
    if runs:
        yield from _of_runs(runs)


def _of_runs(paths: Mapping[str, Path]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    runs = {name: load_result(path) for name, path in paths.items()}
    yield "latency", partial(plots.latency_cdfs, runs)
    if any(len(replica.logged.end_s) for run in runs.values() for replica in run.replicas):
        yield "stalls", partial(plots.generation_stalls, runs)
        yield "memory", partial(plots.kv_and_queue, runs)
    for name, run in runs.items():
        suffix = f"_{_file_name(name)}" if len(runs) > 1 else ""
        yield from ((f"{kind}{suffix}", draw) for kind, draw in of_one_run(run, load_summary(paths[name])))


def of_one_run(run: Result, summary: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the pictures of one run alone, those of OF_EACH_RUN that there are.

    Args:
        run: The run.
        summary: Its summary.json.
    """
    first = next((number for number, one in enumerate(run.replicas) if len(one.logged.end_s)), None)
    if first is None:
        return
    yield "batches", partial(plots.batch_composition, run, first)
    if run.replicas[first].stage_spans is not None and run.replicas[first].placement.pp > 1:
        yield "pipeline", partial(plots.pipeline_timeline, run, first)
    yield "roofline", partial(_roofline, run, summary, first)


def _roofline(run: Result, summary: Mapping[str, Any], replica: int) -> Figure:
    device, batches = typical_batches(run.replicas[replica], summary["config"])
    return plots.roofline(device, batches)


def _of_sweep(folder: Path) -> Iterator[tuple[str, Callable[[], Figure]]]:
    jobs = read_sweep(folder)
    if "capacity_qps" not in jobs[0].row:
        yield "load", lambda: plots.latency_against_load(load_series(jobs))
        return
    curves = capacity_curves(jobs)
    if curves is None:
        yield "capacity", lambda: plots.capacities(capacity_bars(jobs))
    else:
        yield "capacity", partial(plots.capacity_against_slo, curves.curves, curves.objective, curves.intervals)


def _trials(folder: Path) -> Figure:
    found = read_json(folder / "capacity.json", "trials", "slo", "capacity_qps")
    return plots.latency_against_load(trial_series(found), found["slo"], found["capacity_qps"])


def _pareto(folder: Path) -> Figure:
    bounds = read_json(folder / "search.json", "slo")["slo"]
    return plots.cost_against_latency(list(priced_points(folder, list(bounds))), bounds)


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
