"""What `python -m simulator.capacity` writes and prints."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy import stats

from simulator.capacity.bisection import Capacity, Trial
from simulator.capacity.config import CapacityTask
from simulator.cli import print_wide

CONFIDENCE = 0.95
# A trial is said to have another rate than was asked for if it differs by more than this share.
OTHER_RATE = 0.2
NO_WAITING = "nothing in it bounds how long requests wait, add for example slo.scheduling_delay_p50=2"


def summarize(task: CapacityTask, found: Sequence[Capacity]) -> dict[str, Any]:
    """Return the content of capacity.json; bracket, binding objective and figures are those of the first seed.

    Args:
        task: What was asked for.
        found: The outcome for each seed.
    """
    rates = [one.qps for one in found]
    first, best = found[0], found[0].best
    return {
        "capacity_qps": float(np.mean(rates)),
        "confidence_interval_qps": confidence_interval(rates),
        "bracket_qps": first.bracket,
        "binding": first.binding,
        "slo": task.experiment.slo.bounds(),
        "at_capacity": None if best is None else _figures(best),
        "search": asdict(task.search),
        "time_limit_s": task.experiment.time_limit_s,
        "seeds": [
            {"seed": seed, "capacity_qps": one.qps, "bracket_qps": one.bracket, "binding": one.binding}
            for seed, one in zip(task.seeds, found, strict=True)
        ],
        "trials": [
            {"seed": seed, **_figures(trial)}
            for seed, one in zip(task.seeds, found, strict=True)
            for trial in one.trials
        ],
        "warnings": _warnings(task, found),
    }


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean (Student's t); None for a single value."""
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _figures(trial: Trial) -> dict[str, Any]:
    return {
        "qps": trial.qps,
        "met": not trial.missed,
        "missed": list(trial.missed),
        "values": dict(trial.values),
        "goodput": trial.goodput,
        "goodput_qps": trial.goodput_qps,
        "num_finished": trial.num_finished,
        "arrivals_per_s": trial.arrivals_per_s,
    }


def _warnings(task: CapacityTask, found: Sequence[Capacity]) -> list[str]:
    warnings = []
    if any(one.qps == 0 for one in found):
        least = min(trial.qps for one in found for trial in one.trials)
        warnings.append(f"the SLO is missed at every rate that was tried, down to {least:g} requests/s")
    if any(one.bracket[1] is None for one in found):
        most = max(trial.qps for one in found for trial in one.trials)
        advice = "" if task.experiment.slo.bounds_waiting else f"; {NO_WAITING}"
        warnings.append(f"no rate missed the SLO, up to {most:g} requests/s: the capacity is more{advice}")
    elif any(one.best is not None and one.best.overloaded for one in found):
        warnings.append(
            "the queue was still growing when the last request arrived: with more requests the capacity is lower; "
            "raise trace.num_requests and time_limit_s, or bound the waiting"
        )
    warnings += _rate_warnings(task, found)
    if not all(one.converged for one in found):
        warnings.append(f"the search ended after {task.search.max_trials} trials, before its bracket was narrow enough")
    # Those of the runs at the capacity; of other rates where there is none.
    runs = [one.best or one.trials[-1] for one in found]
    return list(dict.fromkeys([*warnings, *(warning for run in runs for warning in run.warnings)]))


def _rate_warnings(task: CapacityTask, found: Sequence[Capacity]) -> list[str]:
    """Say where the requests of a trial did not arrive at the rate that was asked for."""
    for one in found:
        best = one.best
        if best is None or best.arrivals_per_s is None or abs(best.arrivals_per_s / best.qps - 1) <= OTHER_RATE:
            continue
        limit = task.experiment.time_limit_s
        within = "its requests" if limit is None else f"its requests and {limit:g} s"
        return [
            f"the capacity is the rate of the arrival process in the long run; within {within} the trial at "
            f"{best.qps:.4g} requests/s saw {best.arrivals_per_s:.4g}: sessions are still beginning, or the rate "
            "varies more slowly; raise trace.num_requests and time_limit_s"
        ]
    return []


def print_capacity(summary: dict[str, Any], console: Console) -> None:
    """Print the capacity, the trials of the first seed, and the warnings."""
    console.print(_headline(summary))
    print_wide(_trials(summary), console)
    if len(summary["seeds"]) > 1:
        rates = ", ".join(f"{one['capacity_qps']:g}" for one in summary["seeds"])
        console.print(f"capacity by seed, requests/s: {rates}", soft_wrap=True, highlight=False)
    for warning in summary["warnings"]:
        console.print(Text(f"warning: {warning}", style="bold yellow"), soft_wrap=True)


def _headline(summary: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    interval = summary["confidence_interval_qps"]
    mean = f"{summary['capacity_qps']:.4g} requests/s"
    if interval is not None:
        seeds = len(summary["seeds"])
        mean += f" (95 % confidence of the mean of {seeds} seeds: {interval[0]:.4g} to {interval[1]:.4g})"
    table.add_row("capacity", mean)
    first = "" if interval is None else f" (seed {summary['seeds'][0]['seed']})"
    missing = summary["bracket_qps"][1]
    if missing is not None:
        table.add_row(f"bound by{first}", f"{summary['binding']}, missed at {missing:g} requests/s")
    table.add_row("SLO", ", ".join(f"{name} <= {bound:.4g} s" for name, bound in summary["slo"].items()))
    best = summary["at_capacity"]
    if best is not None and best["goodput"] is not None:
        rate = "" if best["goodput_qps"] is None else f", {best['goodput_qps']:.3g} requests/s"
        table.add_row(f"goodput there{first}", f"{best['goodput']:.1%} of the requests are within every bound{rate}")
    return table


def _on_two_lines(name: str) -> str:
    client, dot, objective = name.partition(".")
    return f"{client}\n{objective}" if dot and "_" in objective else name


def _trials(summary: dict[str, Any]) -> Table:
    several = len(summary["seeds"]) > 1
    title = f"trials of seed {summary['seeds'][0]['seed']}" if several else None
    table = Table(title=title, title_justify="left", title_style="dim")
    table.add_column("requests/s", justify="right")
    for name in summary["slo"]:
        # The class of clients on a line of its own keeps columns narrow.
        table.add_column(f"{_on_two_lines(name)}, s", justify="right")
    table.add_column("goodput", justify="right")
    table.add_column("SLO")
    trials = [one for one in summary["trials"] if one["seed"] == summary["seeds"][0]["seed"]]
    for trial in sorted(trials, key=lambda one: one["qps"]):
        values = [
            Text("-" if value is None else f"{value:.4g}", style="red" if name in trial["missed"] else "")
            for name, value in trial["values"].items()
        ]
        goodput = "-" if trial["goodput"] is None else f"{trial['goodput']:.1%}"
        table.add_row(f"{trial['qps']:g}", *values, goodput, "met" if trial["met"] else "missed")
    return table
