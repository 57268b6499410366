"""`python -m simulator.token_budget`: the token budget for a TBT SLO."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from simulator.cli import Figures, hydra_command
from simulator.config import description, named
from simulator.iteration_time import describe_provenance, extent_of_batch
from simulator.launch import with_launch
from simulator.output import deployment_lines, deployment_parts
from simulator.token_budget.config import BudgetTask, build_budget
from simulator.token_budget.curve import largest_budget, measure
from simulator.token_budget.drawing import draw
from simulator.token_budget.maximize import best_budget
from traces.shared.atomic_files import write_csv, write_json
from traces.shared.terminal import facts, new_table, note, show, warn
from traces.shared.warnings import Warning

HELP = """\
Finds the largest token budget that keeps every iteration within the TBT bound of the SLO: the one-time profiling of
Sarathi-Serve. Optionally also searches for the budget with the highest capacity.

  python -m simulator.token_budget [key=value ...]
  python -m simulator.token_budget deployment=yi_34b_a100_tp2 slo.tbt_p99=0.2 'token_budget.decode=[[64,2000]]'
  python -m simulator.token_budget trace=sharegpt slo=relaxed token_budget.maximize_capacity=true

  slo.tbt_p99=SECONDS          as in `python -m simulator.capacity --help`; the tightest bound on tbt applies
  token_budget.decode=[[32,4096]]
                               decodes in the batch: [number of decodes, context tokens of each], ...
  token_budget.prefill_context=4096
                               context tokens of the prefill chunk; the more, the longer the iteration
  token_budget.tile=128        budgets are multiples of this many tokens
  token_budget.max_tokens=8192 largest budget
  token_budget.maximize_capacity=false
                               also search for the budget with the highest capacity; capacity.* are the options
                               of `python -m simulator.capacity --help`

All options of `python -m simulator --help` apply. Writes token_budget.json, token_budget.csv (tokens, iteration_s)
and token_budget.png; with maximize_capacity also capacity_by_budget.csv.

Exit status: 0, 2 for invalid input or a failed job, 130 if interrupted."""


def main() -> None:
    """Run the command line."""
    hydra_command.run(_token_budget, HELP, "token_budget", read_launch=with_launch)


def _token_budget(config: DictConfig, folder: Path) -> Figures:
    task = build_budget(config)
    with named(""):
        curve = measure(task.deployment.stage_times(), task.load, task.tile, task.max_tokens)
        budget = largest_budget(curve, task.bound_s, task.tile)
        capacities = best_budget(task.capacity, task.tile, task.max_tokens) if task.task is not None else {}
    summary = _summary(task, curve, budget, capacities)
    write_csv(folder / "token_budget.csv", ("tokens", "iteration_s"), curve.items())
    if capacities:
        write_csv(folder / "capacity_by_budget.csv", ("token_budget", "capacity_qps"), capacities.items())
    summary |= description(config, task.deployment)
    draw(curve, task.bound_s, budget, capacities, ", ".join(deployment_parts(summary)), folder / "token_budget.png")
    write_json(folder / "token_budget.json", summary)
    _print(summary, capacities, folder)
    return {name: summary[name] for name in ("token_budget", "iteration_s", "best_token_budget", "capacity_qps")}


def _summary(
    task: BudgetTask, curve: dict[int, float], budget: int | None, capacities: dict[int, float]
) -> dict[str, Any]:
    best = max(capacities, key=lambda candidate: capacities[candidate]) if any(capacities.values()) else None
    return {
        "token_budget": budget,
        "iteration_s": None if budget is None else curve[budget],
        "tbt_bound_s": task.bound_s,
        "decode": [list(pair) for pair in task.load.decode],
        "decode_only_s": curve[min(curve)] if task.load.num_decodes else None,
        "prefill_context": task.load.prefill_context,
        "tile": task.tile,
        "best_token_budget": best,
        "capacity_qps": None if best is None else capacities[best],
        "warnings": [warning.text for warning in _warnings(task, budget, capacities)],
    }


def _warnings(task: BudgetTask, budget: int | None, capacities: dict[int, float]) -> Iterator[Warning]:
    if budget is None:
        bound = f"{1e3 * task.bound_s:.4g} ms"
        text = f"no token budget is within {bound}; budgets are multiples of {task.tile} tokens"
        yield Warning("no_budget", text)
    if capacities and not any(capacities.values()):
        yield Warning("none_met", "no token budget sustains any load within the SLO")
    times = task.deployment.stage_times()
    extent = extent_of_batch(task.load.batch(budget or task.tile))
    yield from describe_provenance([(times.provenance, extent)])[1]


def _print(summary: dict[str, Any], capacities: dict[int, float], folder: Path) -> None:
    console = Console()
    rows = [*deployment_lines(summary).items(), ("", "")]
    bound = f"{1e3 * summary['tbt_bound_s']:.4g} ms"
    budget = summary["token_budget"]
    if budget is not None:
        rows.append(("token budget", f"{budget:,} tokens: {1e3 * summary['iteration_s']:.4g} ms, bound {bound}"))
    decodes = ", ".join(f"{count} at {context:,} tokens" for count, context in summary["decode"])
    if decodes:
        rows.append(("decodes", f"{decodes}: {1e3 * summary['decode_only_s']:.4g} ms alone"))
    if summary["best_token_budget"] is not None:
        best = summary["best_token_budget"]
        rows.append(("highest capacity", f"{best:,} tokens: {summary['capacity_qps']:.4g} requests/s"))
    show(console, facts(rows), "")
    if capacities:
        tried = new_table(["token budget", "requests/s"])
        for candidate, qps in capacities.items():
            tried.add_row(f"{candidate:,}", f"{qps:.4g}")
        show(console, tried, "")
    for warning in summary["warnings"]:
        warn(console, warning)
    note(console, f"written to {folder}")


if __name__ == "__main__":
    main()
