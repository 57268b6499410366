"""Reads what sweeps and searches wrote, as series to draw."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.output import UsageError, read_json
from simulator.plot import PricedPoint
from simulator.results import deployment_label

LOAD = "arrival.qps"
# Drawn against the load, as columns of sweep.csv name them.
STATISTICS = ("ttft_p90", "tbt_p99", "e2e_p50")
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Job:
    """A job of a sweep that succeeded.

    Attributes:
        overrides: What the sweep varied, by key.
        row: Its row of sweep.csv.
        folder: Its results.
    """

    overrides: Mapping[str, str]
    row: Mapping[str, str]
    folder: Path


def read_sweep(folder: Path) -> tuple[list[Job], int]:
    """Return the jobs of a sweep that succeeded, with the overrides that differ among all, and how many failed.

    Raises:
        UsageError: There are none.
    """
    try:
        with open(folder / "sweep.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if all(row.get("error") for row in rows):
            raise UsageError(f"no job of {folder} succeeded")
        overrides = [_overrides(folder / row["folder"]) for row in rows]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder / 'sweep.csv'} cannot be read: {error}") from error
    names = list(dict.fromkeys(name for one in overrides for name in one))
    varied = [name for name in names if len({one.get(name) for one in overrides}) > 1]
    jobs = [
        Job({name: one[name] for name in varied if name in one}, row, folder / row["folder"])
        for one, row in zip(overrides, rows, strict=True)
        if not row.get("error")
    ]
    return jobs, len(rows) - len(jobs)


def _overrides(folder: Path) -> dict[str, str]:
    found = {}
    for override in read_json(folder / "job.json", "overrides")["overrides"]:
        name, _, value = override.partition("=")
        found[name] = value
    return found


def load_series(jobs: Sequence[Job]) -> dict[str, dict[str, Points]]:
    """Return latencies against the load: by statistic and by name of the other overrides.

    Raises:
        UsageError: The sweep did not vary the load.
    """
    if LOAD not in jobs[0].overrides:
        raise UsageError(f"the sweep did not vary {LOAD}, which latencies are drawn against")
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
    """Return the loads at which runs were overloaded, by name as in `load_series`."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        if job.row.get("overloaded") == "True" and LOAD in job.overrides:
            found.setdefault(name_of(job, LOAD), []).append(float(job.overrides[LOAD]))
    return found


def name_of(job: Job, *without: str) -> str:
    """Name a job by what it varies: "sarathi", or "sarathi, parallel.tp=2" of several."""
    parts = [
        value if name in ("scheduler", "slo", "model", "device", "deployment", "trace") else f"{name}={value}"
        for name, value in job.overrides.items()
        if name not in without
    ]
    return ", ".join(parts)


@dataclass(frozen=True)
class CapacityCurves:
    """Capacities of a sweep whose jobs differ in one bound.

    Attributes:
        objective: What is bounded.
        curves: By name: (bound, requests/s).
        intervals: By name: their confidence intervals, as far as there are any.
    """

    objective: str
    curves: Mapping[str, Points]
    intervals: Mapping[str, list[tuple[float, float]]]


def capacity_curves(jobs: Sequence[Job]) -> CapacityCurves | None:
    """Return capacities against the bound that the sweep varied; None: it varied none, or it takes two values."""
    bounds = [read_json(job.folder / "capacity.json", "slo")["slo"] for job in jobs]
    varied = [name for name in bounds[0] if len({one.get(name) for one in bounds}) > 2]
    if not varied:
        return None
    objective = varied[0]
    curves: dict[str, Points] = {}
    intervals: dict[str, list[tuple[float, float]]] = {}
    for job, bound in zip(jobs, bounds, strict=True):
        own = f"slo.{objective}"
        name = name_of(job, own if own in job.overrides else "slo")
        curves.setdefault(name, []).append((bound[objective], float(job.row["capacity_qps"])))
        if job.row.get("confidence_low_qps"):
            pair = float(job.row["confidence_low_qps"]), float(job.row["confidence_high_qps"])
            intervals.setdefault(name, []).append(pair)
    whole = {name: pairs for name, pairs in intervals.items() if len(pairs) == len(curves[name])}
    return CapacityCurves(objective, curves, whole)


def capacity_bars(jobs: Sequence[Job]) -> dict[str, dict[str, float]]:
    """Return capacities by the first override that the sweep varied (a series) and by the others (a group)."""
    rates: dict[str, dict[str, float]] = {}
    first = next(iter(jobs[0].overrides), "")
    for job in jobs:
        series = job.overrides.get(first, "")
        rates.setdefault(series, {})[name_of(job, first)] = float(job.row["capacity_qps"])
    return rates


def trial_series(capacity: Mapping[str, Any]) -> dict[str, dict[str, Points]]:
    """Return what the trials of a search for a capacity showed, by objective and by seed if there are several.

    Raises:
        UsageError: They are not as the search writes them.
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
        raise UsageError(f"capacity.json is not whole: its trials have no {error}") from error
    return series


def priced_points(folder: Path, objectives: Sequence[str]) -> Iterator[PricedPoint]:
    """Yield the deployments that a search tried, of its search.csv.

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
                )
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"{folder / 'search.csv'} cannot be read: {error}") from error
