"""Content of capacity.json and the terminal report of `python -m simulator.capacity`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from simulator.capacity.bisection import Capacity, Trial
from simulator.capacity.config import CapacityTask
from simulator.cli import terminal_table
from simulator.output import heading
from simulator.results import Warning, capacity_facts, trials_table
from traces.shared.terminal import facts, show, warn

CONFIDENCE = 0.95
# Relative difference between the measured and the requested arrival rate that causes a warning.
RATE_TOLERANCE = 0.2


def summarize(task: CapacityTask, capacities: Sequence[Capacity]) -> dict[str, Any]:
    """Return the content of capacity.json.

    Bracket, binding objective and metrics are those of the first seed.

    Args:
        task: Search that was run.
        capacities: Result for each seed.
    """
    rates = [capacity.qps for capacity in capacities]
    first, best = capacities[0], capacities[0].best
    return {
        "capacity_qps": float(np.mean(rates)),
        "confidence_interval_qps": confidence_interval(rates),
        "bracket_qps": first.bracket,
        "binding": first.binding,
        "slo": task.experiment.slo.bounds(),
        "slo_is_default": task.has_default_slo,
        "request_bounds_s": {bound.name: bound.bound_s for bound in task.experiment.slo.request_bounds},
        "at_capacity": None if best is None else _trial_entry(best),
        "search": asdict(task.search),
        "time_limit_s": task.experiment.time_limit_s,
        "seeds": [
            {"seed": seed, "capacity_qps": capacity.qps, "bracket_qps": capacity.bracket, "binding": capacity.binding}
            for seed, capacity in zip(task.seeds, capacities, strict=True)
        ],
        "trials": [
            {"seed": seed, **_trial_entry(trial)}
            for seed, capacity in zip(task.seeds, capacities, strict=True)
            for trial in capacity.trials
        ],
        "warnings": list(dict.fromkeys(warning.text for warning in _warnings(task, capacities))),
    }


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean (Student's t).

    None for a single value.
    """
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _trial_entry(trial: Trial) -> dict[str, Any]:
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


def _warnings(task: CapacityTask, capacities: Sequence[Capacity]) -> Iterator[Warning]:
    tried_qps = [trial.qps for capacity in capacities for trial in capacity.trials]
    best = [capacity.best for capacity in capacities if capacity.best is not None]
    if len(best) < len(capacities):
        text = f"every rate that was tried misses the SLO, down to {min(tried_qps):g} requests/s"
        yield Warning("none_met", text)
    if any(capacity.bracket[1] is None for capacity in capacities):
        text = f"every rate that was tried meets the SLO, up to {max(tried_qps):g} requests/s: the capacity is higher"
        yield Warning("all_met", text)
    elif any(trial.overloaded for trial in best):
        text = "at the capacity, requests arrive faster than they are served: with more requests it is lower; raise "
        yield Warning("overloaded", f"{text}trace.num_requests and time_limit_s, or bound the scheduling delay")
    if any(trial.is_burst for trial in best):
        text = "at the capacity, requests arrive for less time than two of them take: it is that of one burst, and "
        yield Warning("burst", f"{text}lower for a lasting load; raise trace.num_requests")
    yield from _rate_warnings(task, best)
    if not all(capacity.converged for capacity in capacities):
        text = f"the search stopped after {task.search.max_trials} trials, before its bracket was narrow enough"
        yield Warning("not_converged", text)
    # Warnings of the trial at the capacity, or of the last trial if no rate met the SLO.
    for capacity in capacities:
        yield from (capacity.best or capacity.trials[-1]).warnings


def _rate_warnings(task: CapacityTask, trials: Sequence[Trial]) -> Iterator[Warning]:
    """Yield a warning if requests at the capacity arrived at another rate."""
    for trial in trials:
        if trial.arrivals_per_s is not None and abs(trial.arrivals_per_s / trial.qps - 1) > RATE_TOLERANCE:
            limit = task.experiment.time_limit_s
            within = "its requests" if limit is None else f"its requests and {limit:g} s"
            yield Warning(
                "other_rate",
                f"the capacity is the long-run rate of the arrival process; within {within} the trial at "
                f"{trial.qps:.4g} requests/s saw {trial.arrivals_per_s:.4g}: sessions are still starting, or the rate "
                "varies more slowly; raise trace.num_requests and time_limit_s",
            )
            return


def print_capacity(summary: dict[str, Any], console: Console) -> None:
    """Print the deployment, the capacity, trials and warnings.

    Trials are those of the first seed.
    """
    first_seed = summary["seeds"][0]["seed"]
    trials = [trial for trial in summary["trials"] if trial["seed"] == first_seed]
    show(console, facts([*heading(summary).items(), ("", ""), *capacity_facts(summary)]), "")
    show(console, terminal_table(trials_table(trials, summary["slo"])))
    if len(summary["seeds"]) > 1:
        rates = ", ".join(f"{seed['capacity_qps']:g}" for seed in summary["seeds"])
        show(console, "", f"the trials are those of seed {first_seed}; capacity by seed, requests/s: {rates}")
    show(console, "")
    for warning in summary["warnings"]:
        warn(console, warning)
