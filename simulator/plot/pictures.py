"""Plots that are available for a finished run, sweep or search."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from simulator.output import SUMMARY, UsageError, load_result, load_summary, read_json
from simulator.plot.batches import batch_composition
from simulator.plot.cost import cost_against_latency
from simulator.plot.latency import latency_cdfs
from simulator.plot.memory import kv_and_queue
from simulator.plot.pipeline import pipeline_timeline
from simulator.plot.prefix_cache import prefix_cache
from simulator.plot.roofline import roofline
from simulator.plot.stalls import generation_stalls
from simulator.plot.sweep_files import (
    Job,
    capacity_bars,
    capacity_curves,
    load_series,
    overloaded_loads,
    priced_points,
    read_sweep,
    trial_series,
)
from simulator.plot.sweeps import capacities, capacity_against_slo, latency_against_load
from simulator.plot.titles import set_search_title, titled
from simulator.results import Result

OF_RUNS = ("latency", "stalls", "memory", "prefixes")
OF_EACH_RUN = ("batches", "pipeline", "roofline")
OF_SWEEPS = ("load", "capacity", "pareto")


def pictures_of(paths: Mapping[str, Path], warnings: list[str]) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """Yield the plots of folders.

    Args:
        paths: Folders by name: sweeps, searches, capacities and runs; runs are drawn together.
        warnings: Warnings about the plots are appended to it.

    Yields:
        Kind, file name without suffix, and drawing function.

    Raises:
        UsageError: A folder is none of these.
        RunError: A run cannot be loaded.
    """
    pictures: list[tuple[str, str, Callable[[], Figure]]] = []
    runs = {}
    for name, path in paths.items():
        if (path / "sweep.csv").is_file():
            pictures += [(kind, name, draw) for kind, draw in _pictures_of_sweep(path, warnings)]
        elif (path / "search.json").is_file():
            pictures.append(("pareto", name, partial(_draw_pareto, path)))
        elif (path / "capacity.json").is_file():
            pictures.append(("load", name, partial(_draw_trials, path)))
        elif path.is_dir() and not (path / SUMMARY).exists():
            raise UsageError(f"{path} is not a folder of a run, a sweep, a search or a capacity")
        else:
            runs[name] = path
    # File names include the folder's name only where several folders have a plot of the kind.
    kinds = Counter(kind for kind, _, _ in pictures)
    pictures = [(kind, name if kinds[kind] > 1 else "", draw) for kind, name, draw in pictures]
    return _with_unique_names([*pictures, *(_pictures_of_runs(runs) if runs else [])])


def _with_unique_names(
    pictures: Iterable[tuple[str, str, Callable[[], Figure]]],
) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """Replace the folder of each plot by a unique file name.

    The name is made of the kind and the folder.
    """
    taken: set[str] = set()
    for kind, folder, draw in pictures:
        first = f"{kind}_{_file_name(folder)}" if folder else kind
        numbered = (f"{first}_{number}" for number in count(2))
        name = next(candidate for candidate in chain([first], numbered) if candidate not in taken)
        taken.add(name)
        yield kind, name, draw


def _pictures_of_runs(paths: Mapping[str, Path]) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    runs = {name: load_result(path) for name, path in paths.items()}
    summaries = {name: load_summary(path) for name, path in paths.items()}
    for kind, draw, names in _pictures_of_all(runs):
        yield kind, "", partial(titled, draw, kind, [summaries[name] for name in names])
    for name, run in runs.items():
        folder, summary = name if len(runs) > 1 else "", summaries[name]
        for kind, draw in pictures_of_run(run, summary):
            yield kind, folder, partial(titled, draw, kind, [summary])


def _pictures_of_all(runs: Mapping[str, Result]) -> Iterator[tuple[str, Callable[[], Figure], Iterable[str]]]:
    """Yield the plots that show runs together.

    Yields:
        Kind, drawing function, and the names of the runs in it.
    """
    yield "latency", partial(latency_cdfs, runs), runs
    if any(len(replica.logged.end_s) for run in runs.values() for replica in run.replicas):
        yield "stalls", partial(generation_stalls, runs), runs
        yield "memory", partial(kv_and_queue, runs), runs
        caching = {name: run for name, run in runs.items() if run.summary["prefix_cache"] is not None}
        if caching:
            yield "prefixes", partial(prefix_cache, caching), caching


def pictures_of_run(run: Result, summary: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the available plots of a single run, by kind.

    Kinds are those of OF_EACH_RUN.

    Args:
        run: The run.
        summary: Its summary.json.
    """
    first = next((index for index, replica in enumerate(run.replicas) if len(replica.logged.end_s)), None)
    if first is None:
        return
    yield "batches", partial(batch_composition, run, first)
    if run.replicas[first].stage_spans is not None and run.replicas[first].placement.pp > 1:
        yield "pipeline", partial(pipeline_timeline, run, first)
    yield "roofline", partial(_draw_roofline, run, summary, first)


def _draw_roofline(run: Result, summary: Mapping[str, Any], replica: int) -> Figure:
    from simulator.plot.typical_batches import typical_batches  # needs Hydra, unlike the rest of this module

    device, batches = typical_batches(run.replicas[replica], summary["config"])
    return roofline(device, batches)


def _pictures_of_sweep(folder: Path, warnings: list[str]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    jobs, num_failed = read_sweep(folder)
    if num_failed:
        warnings.append(f"{num_failed} of {num_failed + len(jobs)} jobs of {folder} failed and are left out")
    if "capacity_qps" in jobs[0].row:
        yield "capacity", partial(_draw_capacities, jobs)
    else:
        yield "load", partial(_draw_loads, jobs)


def _draw_loads(jobs: Sequence[Job]) -> Figure:
    draw = partial(latency_against_load, load_series(jobs), overloaded=overloaded_loads(jobs))
    return titled(draw, "load", [_without_load(job.folder / SUMMARY) for job in jobs])


def _draw_capacities(jobs: Sequence[Job]) -> Figure:
    curves = capacity_curves(jobs)
    draw = (
        partial(capacities, capacity_bars(jobs))
        if curves is None
        else partial(capacity_against_slo, curves.curves, curves.objective, curves.intervals)
    )
    return titled(draw, "capacity", [_without_load(job.folder / "capacity.json") for job in jobs])


def _draw_trials(folder: Path) -> Figure:
    capacity = read_json(folder / "capacity.json", "trials", "slo", "capacity_qps")
    draw = partial(latency_against_load, trial_series(capacity), capacity["slo"], capacity["capacity_qps"])
    return titled(draw, "load", [_without_load(folder / "capacity.json")])


def _without_load(path: Path) -> dict[str, Any]:
    """Read what was saved about a run, without its load.

    A capacity search and a sweep over loads choose the load.
    """
    return {**read_json(path, "config", "groups"), "arrivals_per_s": None}


def _draw_pareto(folder: Path) -> Figure:
    search = read_json(folder / "search.json", "slo", "config")
    figure = cost_against_latency(list(priced_points(folder, list(search["slo"]))), search["slo"])
    set_search_title(figure, search)
    return figure


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
