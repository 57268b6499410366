"""Read results of sweeps and searches as series to draw."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.output import UsageError, read_json
from simulator.results import PricedPoint, deployment_label

LOAD = "arrival.qps"
# Latency statistics that are drawn against the load.
STATISTICS = ("ttft_p90", "tbt_p99", "e2e_p50")
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Job:
    """A successful job of a sweep.

    Attributes:
        overrides: Overrides that differ between jobs, by key.
        row: Its row of sweep.csv.
        folder: Folder with its results.
    """

    overrides: Mapping[str, str]
    row: Mapping[str, str]
    folder: Path


def read_sweep(folder: Path) -> tuple[list[Job], int]:
    """Return the successful jobs of a sweep, and the failed count.

    Overrides count as different if they differ among all jobs, failed ones included.

    Raises:
        UsageError: No job succeeded, or a file cannot be read.
    """
    try:
        with open(folder / "sweep.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if all(row.get("error") for row in rows):
            raise UsageError(f"no job of {folder} succeeded")
        overrides = [_overrides(folder / row["folder"]) for row in rows]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder / 'sweep.csv'} cannot be read: {error}") from error
    names = list(dict.fromkeys(name for job_overrides in overrides for name in job_overrides))
    varied = [name for name in names if len({job_overrides.get(name) for job_overrides in overrides}) > 1]
    jobs = [
        Job({name: job_overrides[name] for name in varied if name in job_overrides}, row, folder / row["folder"])
        for job_overrides, row in zip(overrides, rows, strict=True)
        if not row.get("error")
    ]
    return jobs, len(rows) - len(jobs)


def _overrides(folder: Path) -> dict[str, str]:
    values = {}
    for override in read_json(folder / "job.json", "overrides")["overrides"]:
        name, _, value = override.partition("=")
        values[name] = value
    return values


def load_series(jobs: Sequence[Job]) -> dict[str, dict[str, Points]]:
    """Return latency against load, by statistic and then by the other overrides.

    Raises:
        UsageError: The sweep did not vary the load.
    """
    if LOAD not in jobs[0].overrides:
        raise UsageError(f"the sweep did not vary {LOAD}, the load that latency is drawn against")
    series: dict[str, dict[str, Points]] = {}
    for statistic in STATISTICS:
        metric, _, which = statistic.rpartition("_")
        for job in jobs:
            value = job.row.get(f"{metric}_s.{which}")
            if value:
                curve = series.setdefault(statistic, {}).setdefault(name_of(job, LOAD), [])
                curve.append((float(job.overrides[LOAD]), float(value)))
    return series


def overloaded_loads(jobs: Sequence[Job]) -> dict[str, list[float]]:
    """Return the loads of overloaded runs, by name as in `load_series`."""
    loads: dict[str, list[float]] = {}
    for job in jobs:
        if job.row.get("overloaded") == "True" and LOAD in job.overrides:
            loads.setdefault(name_of(job, LOAD), []).append(float(job.overrides[LOAD]))
    return loads


def name_of(job: Job, *without: str) -> str:
    """Return a name for a job from its overrides.

    For example "sarathi" or "sarathi, parallel.tp=2".

    Args:
        job: The job.
        without: Keys to leave out.
    """
    parts = [
        value if name in ("scheduler", "slo", "model", "device", "deployment", "trace") else f"{name}={value}"
        for name, value in job.overrides.items()
        if name not in without
    ]
    return ", ".join(parts)


@dataclass(frozen=True)
class CapacityCurves:
    """Capacities of a sweep over one latency bound.

    Attributes:
        objective: Bounded latency statistic.
        curves: By name: (bound, requests/s).
        intervals: By name: confidence intervals of the capacities; only names with one for every point.
    """

    objective: str
    curves: Mapping[str, Points]
    intervals: Mapping[str, list[tuple[float, float]]]


def capacity_curves(jobs: Sequence[Job]) -> CapacityCurves | None:
    """Return capacities against a varied latency bound.

    This is the first bound that takes at least three values; None: there is none.
    """
    bounds = [read_json(job.folder / "capacity.json", "slo")["slo"] for job in jobs]
    varied = [name for name in bounds[0] if len({job_bounds.get(name) for job_bounds in bounds}) > 2]
    if not varied:
        return None
    objective = varied[0]
    curves: dict[str, Points] = {}
    intervals: dict[str, list[tuple[float, float]]] = {}
    for job, job_bounds in zip(jobs, bounds, strict=True):
        key = f"slo.{objective}"
        name = name_of(job, key if key in job.overrides else "slo")
        curves.setdefault(name, []).append((job_bounds[objective], float(job.row["capacity_qps"])))
        if job.row.get("confidence_low_qps"):
            interval = float(job.row["confidence_low_qps"]), float(job.row["confidence_high_qps"])
            intervals.setdefault(name, []).append(interval)
    complete = {name: pairs for name, pairs in intervals.items() if len(pairs) == len(curves[name])}
    return CapacityCurves(objective, curves, complete)


def capacity_bars(jobs: Sequence[Job]) -> dict[str, dict[str, float]]:
    """Return capacities by series, then by group.

    The series is the first varied override; the other overrides make the group.
    """
    rates: dict[str, dict[str, float]] = {}
    first = next(iter(jobs[0].overrides), "")
    for job in jobs:
        series = job.overrides.get(first, "")
        rates.setdefault(series, {})[name_of(job, first)] = float(job.row["capacity_qps"])
    return rates


def trial_series(capacity: Mapping[str, Any]) -> dict[str, dict[str, Points]]:
    """Return the latencies of the trials of a capacity search.

    They are by objective and, if there are several seeds, by seed.

    Raises:
        UsageError: The trials are malformed.
    """
    series: dict[str, dict[str, Points]] = {objective: {} for objective in capacity["slo"]}
    try:
        several = len({trial["seed"] for trial in capacity["trials"]}) > 1
        for trial in capacity["trials"]:
            name = f"seed {trial['seed']}" if several else ""
            for objective, curves in series.items():
                if trial["values"].get(objective) is not None:
                    curves.setdefault(name, []).append((float(trial["qps"]), float(trial["values"][objective])))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"capacity.json has malformed trials: {error}") from error
    return series


def priced_points(folder: Path, objectives: Sequence[str]) -> Iterator[PricedPoint]:
    """Yield the deployments in the search.csv of a search.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        with open(folder / "search.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                parts = (row[name] for name in ("replicas", "tp", "pp", "scheduler", "token_budget"))
                yield PricedPoint(
                    device=row["device"],
                    label=deployment_label(*parts),
                    cost_per_hour_usd=float(row["cost_per_hour_usd"]),
                    values={name: float(row[name]) if row[name] else None for name in objectives},
                    met=row["met"] == "1",
                    fronts=[name for name in objectives if row[f"pareto_{name}"] == "1"],
                    max_num_seqs=int(row["max_num_seqs"]) if row["max_num_seqs"] else None,
                    memory_utilization=float(row["memory_utilization"]),
                )
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"{folder / 'search.csv'} cannot be read: {error}") from error
