"""Files and terminal report of `python -m simulator.search`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simulator.cli import terminal_table
from simulator.launch import planning_lines
from simulator.results import PricedPoint, deployments_table, slo_text
from simulator.search.config import SearchTask
from simulator.search.outcomes import NEVER_S, Outcome, cheapest, pareto, shortfall
from simulator.search.walk import NEAR, Walk
from traces.shared.atomic_files import write_csv
from traces.shared.spelling import counted
from traces.shared.terminal import facts, note, show, warn


def write_table(outcomes: Sequence[Outcome], bounds: Mapping[str, float], path: Path) -> None:
    """Write every simulated deployment to search.csv.

    Columns tell whether it is on the Pareto front of each objective.
    """
    fronts = _fronts(outcomes, bounds)
    columns = [field.name for field in fields(Outcome) if field.name not in ("values", "met", "warnings")]
    rows = []
    for outcome in sorted(outcomes, key=_cost):
        seconds = [None if value >= NEVER_S else value for value in outcome.values.values()]
        is_pareto = [int(outcome in front) for front in fronts.values()]
        rows.append([*(getattr(outcome, name) for name in columns), *seconds, int(outcome.met), *is_pareto])
    write_csv(path, [*columns, *bounds, "met", *(f"pareto_{name}" for name in bounds)], rows)


def priced(shown: Sequence[Outcome], outcomes: Sequence[Outcome], bounds: Mapping[str, float]) -> Iterator[PricedPoint]:
    """Yield deployments with the fronts of all outcomes that they are on."""
    fronts = _fronts(outcomes, bounds)
    for outcome in shown:
        yield PricedPoint(
            device=outcome.device,
            label=outcome.label,
            cost_per_hour_usd=outcome.cost_per_hour_usd,
            values={name: None if value >= NEVER_S else value for name, value in outcome.values.items()},
            met=outcome.met,
            fronts=[name for name, front in fronts.items() if outcome in front],
            max_num_seqs=outcome.max_num_seqs,
            memory_utilization=outcome.memory_utilization,
        )


def summarize(task: SearchTask, walk: Walk) -> dict[str, Any]:
    """Return the content of search.json."""
    bounds = task.slo.bounds()
    best = cheapest(walk.outcomes)
    fronts = _fronts(walk.outcomes, bounds)
    return {
        "arrivals_per_s": task.qps if 0 < task.qps < math.inf else None,
        "cheapest": None if best is None else asdict(best),
        "launch": None if best is None else _launch(task, best),
        "pareto": {name: [asdict(outcome) for outcome in front] for name, front in fronts.items()},
        "slo": bounds,
        "request_bounds_s": {bound.name: bound.bound_s for bound in task.slo.request_bounds},
        "num_deployments": len(walk.outcomes),
        "num_options": len(task.kept),
        "lowest_untried_usd": None if walk.open_usd == math.inf else walk.open_usd,
        "warnings": _warnings(task, walk),
        "pruned": [asdict(pruned) for pruned in task.pruned],
    }


def _warnings(task: SearchTask, walk: Walk) -> list[str]:
    """Return the warnings of the search and of the fronts' deployments."""
    bounds = task.slo.bounds()
    shown = [outcome for front in _fronts(walk.outcomes, bounds).values() for outcome in front]
    of_shown = [f"{outcome.device}: {text}" for outcome in shown for text in outcome.warnings]
    return list(dict.fromkeys([*_limit_warnings(walk), *_order_warnings(walk.outcomes, bounds), *of_shown]))


def _limit_warnings(walk: Walk) -> Iterator[str]:
    """Yield what a search that reached its limit does not know."""
    best = cheapest(walk.outcomes)
    if walk.open_usd < math.inf:
        is_certain = best is not None and best.cost_per_hour_usd < walk.open_usd
        missing = "the Pareto front may lack deployments" if is_certain else "cheaper deployments may exist,"
        stopped = f"stopped after {counted(len(walk.outcomes), 'deployment')} (search.trials)"
        yield f"{stopped}: {missing} from ${walk.open_usd:,.2f}/h up"


def _order_warnings(outcomes: Sequence[Outcome], bounds: Mapping[str, float]) -> Iterator[str]:
    """Yield where more replicas miss by more, against the assumption."""
    for fewer, more in combinations(sorted(outcomes, key=_cost), 2):
        if fewer.option != more.option:
            continue
        if math.inf > shortfall(more, bounds) > NEAR * max(1, shortfall(fewer, bounds)):
            yield (
                f"{fewer.device}, {fewer.label} is closer to the SLO than {counted(more.replicas, 'replica')}: "
                "cheaper deployments may exist among the numbers of replicas that the search rules out"
            )


def print_search(task: SearchTask, walk: Walk, warnings: Sequence[str], console: Console) -> None:
    """Print the question, the answer with its launch, and the candidates."""
    best = cheapest(walk.outcomes)
    show(console, facts(_headline(task, best)), "")
    if best is not None:
        show(console, *_launch(task, best), "")
    show(console, _candidates(walk.outcomes, task.slo.bounds(), best), "")
    layouts = {option.layout for option in task.kept}
    counts = f"{counted(len(layouts), 'layout')} searched, {len(task.pruned)} ruled out"
    show(console, f"{counts}; {counted(len(walk.outcomes), 'deployment')} simulated")
    for pruned in task.pruned:
        note(console, f"  ruled out {pruned.name}: {pruned.reason}")
    for warning in warnings:
        warn(console, warning)


def _launch(task: SearchTask, outcome: Outcome) -> list[str]:
    """Return the lines that launch a deployment, and its cost."""
    return planning_lines(task.deployment_of(outcome), task.model_path, task.qps, task.trace)


def _headline(task: SearchTask, best: Outcome | None) -> Iterator[tuple[str, str]]:
    """Yield what was asked, and the cheapest deployment in a sentence."""
    model = task.kept[0].deployment.model.name
    prompt, output = task.trace.prompt_tokens.mean(), task.trace.output_tokens.mean()
    rate = f"{task.qps:.4g} requests/s of " if task.qps else ""
    yield "model", model
    yield "load", f"{rate}{task.trace_name}, {prompt:,.0f} + {output:,.0f} tokens (prompt + output, mean)"
    yield "SLO", slo_text(task.slo.bounds(), {bound.name: bound.bound_s for bound in task.slo.request_bounds})
    if best is None:
        yield "cheapest", "none of the simulated deployments meets the SLO"
        return
    layout = f"{best.replicas} x {best.device} tp{best.tp} pp{best.pp}, {best.scheduler}"
    yield "cheapest", f"${best.cost_per_hour_usd:,.2f}/h, {layout}"
    yield "limits", _limits(best)


def _limits(outcome: Outcome) -> str:
    """Return the options that were chosen."""
    sizes = {"token": outcome.token_budget, "request": outcome.max_num_seqs}
    stated = " and ".join(counted(size, name) for name, size in sizes.items() if size is not None)
    memory = f"{outcome.memory_utilization:.0%} of the memory"
    return f"{stated} per iteration, {memory}" if stated else memory


def _candidates(outcomes: Sequence[Outcome], bounds: Mapping[str, float], best: Outcome | None) -> Table:
    """Return the deployments on a front, or those closest to the SLO."""
    on_a_front = {id(outcome): outcome for front in _fronts(outcomes, bounds).values() for outcome in front}
    closest = sorted(outcomes, key=lambda outcome: (shortfall(outcome, bounds), -outcome.cost_per_hour_usd))[:5]
    shown = sorted(on_a_front.values(), key=_cost) or closest
    title = "Pareto front" if on_a_front else "closest to the SLO"
    name = "" if best is None else f"{best.device}, {best.label}"
    return terminal_table(deployments_table(title, priced(shown, outcomes, bounds), bounds, name), titled=True)


def _fronts(outcomes: Sequence[Outcome], bounds: Mapping[str, float]) -> dict[str, list[Outcome]]:
    """Return the Pareto front of cost against each objective."""
    return {objective: pareto(outcomes, objective) for objective in bounds}


def _cost(outcome: Outcome) -> float:
    return outcome.cost_per_hour_usd
