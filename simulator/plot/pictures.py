"""Which pictures there are of a finished run, sweep or search."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    capacity_bars,
    capacity_curves,
    load_series,
    overloaded_loads,
    priced_points,
    read_sweep,
    trial_series,
)
from simulator.plot.sweeps import capacities, capacity_against_slo, latency_against_load
from simulator.results import Result

OF_RUNS = ("latency", "stalls", "memory", "prefixes")
OF_EACH_RUN = ("batches", "pipeline", "roofline")
OF_SWEEPS = ("load", "capacity", "pareto")


def pictures_of(paths: Mapping[str, Path], notes: list[str]) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """Yield the kind of each picture, the name of its file without ending, and what draws it.

    Args:
        paths: Folders by name: of runs, which are drawn together, sweeps, searches and capacities.
        notes: Gets what to know of the pictures.

    Raises:
        UsageError: A folder is none of these.
        RunError: A run cannot be loaded.
    """
    found: list[tuple[str, str, Callable[[], Figure]]] = []
    runs = {}
    for name, path in paths.items():
        if (path / "sweep.csv").is_file():
            found += [(kind, name, draw) for kind, draw in _of_sweep(path, notes)]
        elif (path / "search.json").is_file():
            found.append(("pareto", name, partial(_pareto, path)))
        elif (path / "capacity.json").is_file():
            found.append(("load", name, partial(_trials, path)))
        elif path.is_dir() and not (path / SUMMARY).exists():
            raise UsageError(f"{path} is no folder of a run, a sweep, a search or a capacity")
        else:
            runs[name] = path
    # The name of a folder is in the names of its pictures where another folder could have pictures of the kind.
    kinds = Counter(kind for kind, _, _ in found)
    found = [(kind, name if kinds[kind] > 1 else "", draw) for kind, name, draw in found]
    return _different([*found, *(_of_runs(runs) if runs else [])])


def _different(
    pictures: Iterable[tuple[str, str, Callable[[], Figure]]],
) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """Make names of files of kinds and the names of folders, all different."""
    taken: set[str] = set()
    for kind, folder, draw in pictures:
        first = f"{kind}_{_file_name(folder)}" if folder else kind
        numbered = (f"{first}_{number}" for number in count(2))
        name = next(one for one in chain([first], numbered) if one not in taken)
        taken.add(name)
        yield kind, name, draw


def _of_runs(paths: Mapping[str, Path]) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    runs = {name: load_result(path) for name, path in paths.items()}
    yield "latency", "", partial(latency_cdfs, runs)
    if any(len(replica.logged.end_s) for run in runs.values() for replica in run.replicas):
        yield "stalls", "", partial(generation_stalls, runs)
        yield "memory", "", partial(kv_and_queue, runs)
        caching = {name: run for name, run in runs.items() if run.summary["prefix_cache"] is not None}
        if caching:
            yield "prefixes", "", partial(prefix_cache, caching)
    for name, run in runs.items():
        own = name if len(runs) > 1 else ""
        yield from ((kind, own, draw) for kind, draw in pictures_of_run(run, load_summary(paths[name])))


def pictures_of_run(run: Result, summary: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the pictures of one run alone, those of OF_EACH_RUN that there are.

    Args:
        run: The run.
        summary: Its summary.json.
    """
    first = next((number for number, one in enumerate(run.replicas) if len(one.logged.end_s)), None)
    if first is None:
        return
    yield "batches", partial(batch_composition, run, first)
    if run.replicas[first].stage_spans is not None and run.replicas[first].placement.pp > 1:
        yield "pipeline", partial(pipeline_timeline, run, first)
    yield "roofline", partial(_roofline, run, summary, first)


def _roofline(run: Result, summary: Mapping[str, Any], replica: int) -> Figure:
    from simulator.plot.typical_batches import typical_batches  # needs Hydra, which nothing else here does

    device, batches = typical_batches(run.replicas[replica], summary["config"])
    return roofline(device, batches)


def _of_sweep(folder: Path, notes: list[str]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    jobs, num_failed = read_sweep(folder)
    if num_failed:
        notes.append(f"{num_failed} of {num_failed + len(jobs)} jobs of {folder} failed and are left out")
    if "capacity_qps" not in jobs[0].row:
        yield "load", lambda: latency_against_load(load_series(jobs), overloaded=overloaded_loads(jobs))
        return
    curves = capacity_curves(jobs)
    if curves is None:
        yield "capacity", lambda: capacities(capacity_bars(jobs))
    else:
        yield "capacity", partial(capacity_against_slo, curves.curves, curves.objective, curves.intervals)


def _trials(folder: Path) -> Figure:
    found = read_json(folder / "capacity.json", "trials", "slo", "capacity_qps")
    return latency_against_load(trial_series(found), found["slo"], found["capacity_qps"])


def _pareto(folder: Path) -> Figure:
    bounds = read_json(folder / "search.json", "slo")["slo"]
    return cost_against_latency(list(priced_points(folder, list(bounds))), bounds)


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
