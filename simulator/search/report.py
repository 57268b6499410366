"""Files and terminal report of `python -m simulator.search`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simulator.cli import terminal_table
from simulator.launch import planning_lines
from simulator.results import PricedPoint, deployments_table, slo_text
from simulator.search.config import SearchTask
from simulator.search.outcomes import NEVER_S, Outcome, excess, loss, pareto, set_of
from traces.shared.atomic_files import write_csv
from traces.shared.spelling import counted
from traces.shared.terminal import facts, note, show, warn


def fronts(outcomes: Sequence[Outcome], bounds: Mapping[str, float]) -> dict[str, list[Outcome]]:
    """Return the Pareto front of cost against each objective."""
    return {objective: pareto(outcomes, objective) for objective in bounds}


def cheapest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the cheapest deployment within the SLO, or None.

    Ties go to the best in the first objective.
    """
    within = [outcome for outcome in outcomes if outcome.met]
    return min(within, key=_cheapest_first) if within else None


def _cheapest_first(outcome: Outcome) -> tuple[float, ...]:
    return (outcome.cost_per_hour_usd, *(loss(name, value) for name, value in outcome.values.items()))


def priced(shown: Sequence[Outcome], outcomes: Sequence[Outcome], bounds: Mapping[str, float]) -> Iterator[PricedPoint]:
    """Yield deployments with the fronts of all outcomes that they are on."""
    front_by_objective = fronts(outcomes, bounds)
    for outcome in shown:
        yield PricedPoint(
            device=outcome.device,
            label=outcome.label,
            cost_per_hour_usd=outcome.cost_per_hour_usd,
            values={name: None if value >= NEVER_S else value for name, value in outcome.values.items()},
            met=outcome.met,
            fronts=[name for name in bounds if outcome in front_by_objective[name]],
            max_num_seqs=outcome.max_num_seqs,
            memory_utilization=outcome.memory_utilization,
        )


def write_table(outcomes: Sequence[Outcome], bounds: Mapping[str, float], path: Path) -> None:
    """Write every simulated deployment to search.csv.

    Columns tell whether it is on the Pareto front of each objective.
    """
    front_by_objective = fronts(outcomes, bounds)
    columns = [field.name for field in fields(Outcome) if field.name not in ("values", "met", "warnings")]
    rows = []
    for outcome in sorted(set_of(outcomes), key=_order):
        plain = asdict(outcome)
        seconds = [None if value >= NEVER_S else value for value in outcome.values.values()]
        is_pareto = [int(outcome in front_by_objective[name]) for name in bounds]
        rows.append([*(plain[name] for name in columns), *seconds, int(outcome.met), *is_pareto])
    write_csv(path, [*columns, *bounds, "met", *(f"pareto_{name}" for name in bounds)], rows)


def summarize(task: SearchTask, outcomes: Sequence[Outcome], num_points: int) -> dict[str, Any]:
    """Return the content of search.json.

    Args:
        task: Search that was run.
        outcomes: Every simulated deployment.
        num_points: Number of different proposals.
    """
    bounds = task.slo.bounds()
    best = cheapest(outcomes)
    return {
        "arrivals_per_s": task.qps if 0 < task.qps < math.inf else None,
        "cheapest": None if best is None else asdict(best),
        "launch": None if best is None else launch_of(task, best),
        "pareto": {name: [asdict(outcome) for outcome in front] for name, front in fronts(outcomes, bounds).items()},
        "slo": bounds,
        "request_bounds_s": {bound.name: bound.bound_s for bound in task.slo.request_bounds},
        "num_deployments": len(set_of(outcomes)),
        "num_proposals": num_points,
        "warnings": _warnings(task, outcomes, num_points),
        "pruned": [asdict(pruned) for pruned in task.pruned],
    }


def _warnings(task: SearchTask, outcomes: Sequence[Outcome], num_points: int) -> list[str]:
    """Return the warnings of the search and of the fronts' deployments.

    The search warns if not all proposals were tried.
    """
    warnings = []
    if task.trials < num_points:
        warnings.append(f"{task.trials} of {num_points} proposals were tried: there may be cheaper deployments")
    bounds = task.slo.bounds()
    shown = [outcome for front in fronts(outcomes, bounds).values() for outcome in front]
    of_shown = (f"{outcome.device}: {text}" for outcome in shown for text in outcome.warnings)
    return list(dict.fromkeys([*warnings, *of_shown]))


def print_search(task: SearchTask, outcomes: Sequence[Outcome], warnings: Sequence[str], console: Console) -> None:
    """Print the question, the answer with its launch, and the candidates."""
    best = cheapest(outcomes)
    show(console, facts(_headline(task, best)), "")
    if best is not None:
        show(console, *launch_of(task, best), "")
    show(console, _candidates(task, outcomes, best), "")
    counts = f"{counted(len(task.kept), 'layout')} searched, {len(task.pruned)} ruled out"
    show(console, f"{counts}; {counted(len(set_of(outcomes)), 'deployment')} simulated")
    for pruned in task.pruned:
        note(console, f"  ruled out {pruned.name}: {pruned.reason}")
    for warning in warnings:
        warn(console, warning)


def launch_of(task: SearchTask, outcome: Outcome) -> list[str]:
    """Return the lines that launch a deployment, and its cost."""
    return planning_lines(task.deployment_of(outcome), task.model_path, task.qps, task.trace)


def _headline(task: SearchTask, best: Outcome | None) -> Iterator[tuple[str, str]]:
    """Yield what was asked, and the cheapest deployment in a sentence."""
    model = task.build(task.kept[0].device, 1, 1, next(iter(task.kept[0].token_budgets))).model.name
    prompt, output = task.trace.prompt_tokens.mean(), task.trace.output_tokens.mean()
    rate = f"{task.qps:.4g} requests/s of " if task.qps else ""
    yield "model", model
    yield "load", f"{rate}{task.trace_name}, {prompt:,.0f} + {output:,.0f} tokens (prompt + output, mean)"
    yield "SLO", slo_text(task.slo.bounds(), {bound.name: bound.bound_s for bound in task.slo.request_bounds})
    yield "cheapest", _none_or(best)
    if best is not None:
        yield "limits", _limits(best)


def _none_or(best: Outcome | None) -> str:
    if best is None:
        return "none of the simulated deployments meets the SLO"
    layout = f"{best.replicas} x {best.device} tp{best.tp} pp{best.pp}, {best.scheduler}"
    return f"${best.cost_per_hour_usd:,.2f}/h, {layout}"


def _limits(outcome: Outcome) -> str:
    """Return the options that were chosen."""
    sizes = {"token": outcome.token_budget, "request": outcome.max_num_seqs}
    stated = " and ".join(counted(size, name) for name, size in sizes.items() if size is not None)
    memory = f"{outcome.memory_utilization:.0%} of the memory"
    return f"{stated} per iteration, {memory}" if stated else memory


def _candidates(task: SearchTask, outcomes: Sequence[Outcome], best: Outcome | None) -> Table:
    """Return the deployments on a front, or those closest to the SLO."""
    bounds = task.slo.bounds()
    on_a_front = {id(outcome): outcome for front in fronts(outcomes, bounds).values() for outcome in front}
    shown = (
        sorted(on_a_front.values(), key=_order)
        or sorted(
            set_of(outcomes),
            key=lambda outcome: max(excess(name, outcome.values[name], bound) for name, bound in bounds.items()),
        )[:5]
    )
    title = "Pareto front" if on_a_front else "closest to the SLO"
    name = "" if best is None else f"{best.device}, {best.label}"
    return terminal_table(deployments_table(title, priced(shown, outcomes, bounds), bounds, name), titled=True)


def _order(outcome: Outcome) -> tuple[Any, ...]:
    layout = (outcome.device, outcome.tp, outcome.pp, outcome.replicas)
    return (outcome.cost_per_hour_usd, *layout, outcome.scheduler, outcome.token_budget or 0)
