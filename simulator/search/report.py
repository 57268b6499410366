"""What `python -m simulator.search` writes and prints."""

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
from traces.shared.whole_files import whole_file


def fronts(outcomes: Sequence[Outcome], bounds: Mapping[str, float]) -> dict[str, list[Outcome]]:
    """Return the Pareto front of cost against each objective."""
    return {objective: pareto(outcomes, objective) for objective in bounds}


def cheapest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the cheapest deployment within the SLO, of several the best in the first objective, or None."""
    within = [one for one in outcomes if one.met]
    return min(within, key=lambda one: (one.cost_per_hour_usd, *one.values.values())) if within else None


def write_table(outcomes: Sequence[Outcome], bounds: Mapping[str, float], path: Path) -> None:
    """Write search.csv: every deployment that was tried, and whether it is on a front."""
    on = fronts(outcomes, bounds)
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [field.name for field in fields(Outcome) if field.name not in ("values", "met", "warnings")]
        writer.writerow([*columns, *bounds, "met", *(f"pareto_{name}" for name in bounds)])
        for one in sorted(set_of(outcomes), key=_order):
            plain = asdict(one)
            seconds = ["" if value >= NEVER_S else value for value in one.values.values()]
            marks = [int(one in on[name]) for name in bounds]
            writer.writerow([*(plain[name] for name in columns), *seconds, int(one.met), *marks])


def summarize(task: SearchTask, outcomes: Sequence[Outcome], num_points: int) -> dict[str, Any]:
    """Return the content of search.json.

    Args:
        task: What was asked for.
        outcomes: Every deployment that was simulated.
        num_points: Proposals that there are.
    """
    bounds = task.slo.bounds()
    best = cheapest(outcomes)
    return {
        "cheapest": None if best is None else asdict(best),
        "pareto": {name: [asdict(one) for one in front] for name, front in fronts(outcomes, bounds).items()},
        "slo": bounds,
        "num_deployments": len(set_of(outcomes)),
        "num_proposals": num_points,
        "warnings": _warnings(task, outcomes, num_points),
        "pruned": [asdict(one) for one in task.pruned],
    }


def _warnings(task: SearchTask, outcomes: Sequence[Outcome], num_points: int) -> list[str]:
    """What to know before trusting the result: how much was tried, and the warnings of what is shown."""
    warnings = []
    if task.trials < num_points:
        warnings.append(f"{task.trials} of {num_points} proposals were tried: there may be cheaper deployments")
    bounds = task.slo.bounds()
    shown = [one for front in fronts(outcomes, bounds).values() for one in front]
    return list(dict.fromkeys([*warnings, *(f"{one.device}: {text}" for one in shown for text in one.warnings)]))


def print_search(task: SearchTask, outcomes: Sequence[Outcome], warnings: Sequence[str], console: Console) -> None:
    """Print what was ruled out, the fronts, the cheapest deployment and the warnings."""
    bounds = task.slo.bounds()
    console.print(
        f"{len(task.kept)} layouts may win, {len(task.pruned)} cannot; "
        f"{len(set_of(outcomes))} deployments were simulated",
        highlight=False,
    )
    for pruned in task.pruned:
        console.print(Text(f"  without {pruned.name}: {pruned.reason}", style="dim"), soft_wrap=True)
    on = fronts(outcomes, bounds)
    shown = sorted({id(one): one for front in on.values() for one in front}.values(), key=_order)
    if not shown:
        console.print(Text("warning: no deployment that was tried is within the SLO", style="bold yellow"))
        shown = sorted(
            set_of(outcomes), key=lambda one: max(one.values[name] / bound for name, bound in bounds.items())
        )[:5]
    table = Table(title="Pareto front" if any(on.values()) else "closest to the SLO", title_justify="left")
    for name in ("$/h", "device", "tp", "pp", "replicas", "scheduler", "token budget"):
        table.add_column(name, justify="left" if name in ("device", "scheduler") else "right", no_wrap=True)
    for name, bound in bounds.items():
        table.add_column(f"{name}\n<= {bound:.4g} s", justify="right")
    best = cheapest(outcomes)
    for one in shown:
        cells = [
            f"{one.cost_per_hour_usd:,.2f}",
            one.device,
            str(one.tp),
            str(one.pp),
            str(one.replicas),
            one.scheduler,
        ]
        cells.append("-" if one.token_budget is None else str(one.token_budget))
        table.add_row(*cells, *(_seconds(one.values[name]) for name in bounds), style="bold" if one is best else "")
    print_wide(table, console)
    if best is not None:
        layout = f"{best.replicas} x {best.device} tp{best.tp} pp{best.pp}, {best.scheduler}"
        console.print(f"cheapest: ${best.cost_per_hour_usd:,.2f}/h, {layout}", soft_wrap=True, highlight=False)
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="bold yellow"), soft_wrap=True)


def _order(one: Outcome) -> tuple[Any, ...]:
    return (one.cost_per_hour_usd, one.device, one.tp, one.pp, one.replicas, one.scheduler, one.token_budget or 0)


def _seconds(value: float) -> str:
    return "-" if value >= NEVER_S else f"{value:.4g}"
