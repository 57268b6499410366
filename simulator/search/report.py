"""Files and terminal report of `python -m simulator.search`."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulator.cli import print_wide
from simulator.search.config import SearchTask
from simulator.search.outcomes import NEVER_S, Outcome, pareto, set_of
from traces.shared.atomic_files import atomic_file


def fronts(outcomes: Sequence[Outcome], bounds: Mapping[str, float]) -> dict[str, list[Outcome]]:
    """Return the Pareto front of cost against each objective."""
    return {objective: pareto(outcomes, objective) for objective in bounds}


def cheapest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the cheapest deployment within the SLO, or None.

    Ties go to the best in the first objective.
    """
    within = [outcome for outcome in outcomes if outcome.met]
    return min(within, key=lambda outcome: (outcome.cost_per_hour_usd, *outcome.values.values())) if within else None


def write_table(outcomes: Sequence[Outcome], bounds: Mapping[str, float], path: Path) -> None:
    """Write every simulated deployment to search.csv.

    Columns tell whether it is on the Pareto front of each objective.
    """
    front_by_objective = fronts(outcomes, bounds)
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [field.name for field in fields(Outcome) if field.name not in ("values", "met", "warnings")]
        writer.writerow([*columns, *bounds, "met", *(f"pareto_{name}" for name in bounds)])
        for outcome in sorted(set_of(outcomes), key=_order):
            plain = asdict(outcome)
            seconds = ["" if value >= NEVER_S else value for value in outcome.values.values()]
            is_pareto = [int(outcome in front_by_objective[name]) for name in bounds]
            writer.writerow([*(plain[name] for name in columns), *seconds, int(outcome.met), *is_pareto])


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
        "cheapest": None if best is None else asdict(best),
        "pareto": {name: [asdict(outcome) for outcome in front] for name, front in fronts(outcomes, bounds).items()},
        "slo": bounds,
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
    """Print the ruled-out layouts, the fronts, the cheapest deployment and the warnings."""
    bounds = task.slo.bounds()
    console.print(
        f"{len(task.kept)} layouts searched, {len(task.pruned)} ruled out; "
        f"{len(set_of(outcomes))} deployments simulated",
        highlight=False,
    )
    for pruned in task.pruned:
        console.print(Text(f"  ruled out {pruned.name}: {pruned.reason}", style="dim"), soft_wrap=True)
    front_by_objective = fronts(outcomes, bounds)
    on_a_front = {id(outcome): outcome for front in front_by_objective.values() for outcome in front}
    shown = sorted(on_a_front.values(), key=_order)
    if not shown:
        console.print(Text("warning: no simulated deployment meets the SLO", style="bold yellow"))
        shown = sorted(
            set_of(outcomes), key=lambda outcome: max(outcome.values[name] / bound for name, bound in bounds.items())
        )[:5]
    table = Table(title="Pareto front" if on_a_front else "closest to the SLO", title_justify="left")
    for name in ("$/h", "device", "tp", "pp", "replicas", "scheduler", "token budget"):
        table.add_column(name, justify="left" if name in ("device", "scheduler") else "right", no_wrap=True)
    for name, bound in bounds.items():
        table.add_column(f"{name}\n<= {bound:.4g} s", justify="right")
    best = cheapest(outcomes)
    for outcome in shown:
        cells = [
            f"{outcome.cost_per_hour_usd:,.2f}",
            outcome.device,
            str(outcome.tp),
            str(outcome.pp),
            str(outcome.replicas),
            outcome.scheduler,
            "-" if outcome.token_budget is None else str(outcome.token_budget),
        ]
        seconds = (_seconds(outcome.values[name]) for name in bounds)
        table.add_row(*cells, *seconds, style="bold" if outcome is best else "")
    print_wide(table, console)
    if best is not None:
        layout = f"{best.replicas} x {best.device} tp{best.tp} pp{best.pp}, {best.scheduler}"
        console.print(f"cheapest: ${best.cost_per_hour_usd:,.2f}/h, {layout}", soft_wrap=True, highlight=False)
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="bold yellow"), soft_wrap=True)


def _order(outcome: Outcome) -> tuple[Any, ...]:
    layout = (outcome.device, outcome.tp, outcome.pp, outcome.replicas)
    return (outcome.cost_per_hour_usd, *layout, outcome.scheduler, outcome.token_budget or 0)


def _seconds(value: float) -> str:
    return "-" if value >= NEVER_S else f"{value:.4g}"
