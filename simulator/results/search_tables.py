"""Tables and facts of sweeps and searches: jobs, trials, deployments."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.results.formatting import (
    bounds_text,
    count,
    dollars,
    figure,
    milliseconds,
    objective_label,
    objective_value,
    share,
    slo_text,
    slo_word,
)
from simulator.results.run_tables import latency_column
from simulator.results.tables import Cell, Column, Table, Values, cell

# Figures of a job, by their names in sweep.csv.
_FIGURES = (
    Column("capacity_qps", "capacity, requests/s"),
    Column("requests_per_s", "requests/s"),
    Column("output_tokens_per_s", "tokens/s"),
    latency_column("ttft_s", "p90"),
    latency_column("tbt_s", "p99"),
    latency_column("tpot_s", "p50"),
    Column("e2e_s.p50", "E2E p50, ms", milliseconds, is_detail=True),
    Column("slo.goodput", "goodput", share),
    Column("goodput", "goodput", share),
    Column("kv_use.max", "KV used, most", share, is_detail=True),
    Column("num_preemptions", "preemptions", count, is_detail=True),
    Column("cost_per_hour_usd", "$/h", dollars),
    Column("cluster.cost_per_million_output_tokens_usd", "$/M tokens", dollars),
    Column("binding", "bound by", objective_label),
    Column("overloaded", "overloaded", lambda value: "yes" if value else "no"),
    Column("device", "device", str),
    Column("scheduler", "scheduler", str),
    Column("slo.met", "SLO", slo_word),
)


def jobs_table(rows: Sequence[Values], varied: Sequence[str]) -> Table:
    """Return the jobs of a sweep: what was varied, then their figures.

    Args:
        rows: Rows of sweep.csv.
        varied: Columns of sweep.csv that come first.
    """
    columns = [
        column
        for column in _FIGURES
        if column.name not in varied and any(row.get(column.name) is not None for row in rows)
    ]
    cells = [[*(_setting(row.get(name)) for name in varied), *_figures(row, columns)] for row in rows]
    details = [column.head for column in columns if column.is_detail]
    return Table("Jobs", [*varied, *(column.head for column in columns)], cells, details)


def _figures(row: Values, columns: Sequence[Column]) -> list[Cell]:
    if row.get("error"):
        return [Cell("failed", None)] * len(columns)
    return [cell(row.get(column.name), column.text) for column in columns]


def _setting(value: Any) -> Cell:
    """Return a cell of a varied value, sorted by number if possible."""
    try:
        return Cell(str(value), float(value))
    except (TypeError, ValueError):
        return cell(value)


def capacity_facts(capacity: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the result of a capacity search, by label.

    Args:
        capacity: The content of capacity.json.
    """
    interval, missing_qps = capacity["confidence_interval_qps"], capacity["bracket_qps"][1]
    reached = all(seed["bracket_qps"][1] is not None for seed in capacity["seeds"])
    mean = f"{'' if reached else 'more than '}{figure(capacity['capacity_qps'])} requests/s"
    first = ""
    if interval is not None:
        mean += f" (95 % confidence, {len(capacity['seeds'])} seeds: {interval[0]:.4g} to {interval[1]:.4g})"
        first = f" (seed {capacity['seeds'][0]['seed']})"
    yield "capacity", mean
    if missing_qps is not None:
        yield f"bound by{first}", f"{objective_label(capacity['binding'])}, missed at {missing_qps:g} requests/s"
    default = " (the default: no objective was given)" if capacity["slo_is_default"] else ""
    yield "SLO", f"{slo_text(capacity['slo'], capacity['request_bounds_s'])}{default}"
    best = capacity["at_capacity"]
    if best is not None and best["goodput"] is not None:
        rate = "" if best["goodput_qps"] is None else f", {best['goodput_qps']:.3g} requests/s"
        within = bounds_text(capacity["request_bounds_s"])
        yield f"goodput{first}", f"{share(best['goodput'])} of the requests{rate}, within {within}"


def trials_table(trials: Iterable[Mapping[str, Any]], objectives: Collection[str]) -> Table:
    """Return the trials of a capacity search, by rate.

    Args:
        trials: As in capacity.json.
        objectives: Names of the objectives.
    """
    trials = sorted(trials, key=lambda trial: (trial["qps"], trial["seed"]))
    seed = ["seed"] if len({trial["seed"] for trial in trials}) > 1 else []
    has_goodput = "goodput" not in objectives and any(trial["goodput"] is not None for trial in trials)
    goodput = ["goodput"] if has_goodput else []
    rows = [
        [
            cell(trial["qps"], figure),
            *(cell(trial[name]) for name in seed),
            *(_objective(name, trial["values"].get(name), name in trial["missed"]) for name in objectives),
            *(cell(trial[name], share) for name in goodput),
            cell(trial["num_finished"], count),
            cell("met" if trial["met"] else f"missed: {', '.join(map(objective_label, trial['missed']))}"),
        ]
        for trial in trials
    ]
    head = ["requests/s", *seed, *map(objective_label, objectives), *goodput, "finished", "SLO"]
    return Table("Trials", head, rows, ["finished"])


def _objective(name: str, value: float | None, is_missed: bool = False) -> Cell:
    return Cell(objective_value(name, value), value, "missed" if is_missed else "")


@dataclass(frozen=True)
class PricedPoint:
    """A deployment with its price and latencies.

    Attributes:
        device: Name of its GPUs.
        label: Short description of the rest of the deployment.
        cost_per_hour_usd: Price, US dollars per hour.
        values: Seconds by objective, such as "tbt_p99"; None: no value.
        met: Whether it meets every bound.
        fronts: Objectives for which no cheaper deployment is as good.
        max_num_seqs: Maximum running requests of a replica; None: the policy states none.
        memory_utilization: Share of the GPU memory that the engine takes; None: unknown.
    """

    device: str
    label: str
    cost_per_hour_usd: float
    values: Mapping[str, float | None]
    met: bool
    fronts: Sequence[str]
    max_num_seqs: int | None = None
    memory_utilization: float | None = None

    @property
    def name(self) -> str:
        """The whole deployment."""
        return f"{self.device}, {self.label}"


def deployments_table(title: str, deployments: Iterable[PricedPoint], objectives: Iterable[str], best: str) -> Table:
    """Return deployments with their prices and objectives.

    Args:
        title: Title.
        deployments: The deployments.
        objectives: Names of the objectives.
        best: Name of the best; empty: there is none.
    """
    rows = [
        [
            Cell(point.name, point.name, "best" if point.name == best else ""),
            cell(point.cost_per_hour_usd, dollars),
            cell(point.max_num_seqs, count),
            cell(point.memory_utilization, "{:.0%}".format),
            *(_objective(name, point.values[name]) for name in objectives),
            cell(slo_word(point.met)),
            cell(", ".join(map(objective_label, point.fronts)) or None),
        ]
        for point in deployments
    ]
    last = ["SLO", "Pareto front of"]
    head = ["deployment", "$/h", "requests", "memory", *map(objective_label, objectives), *last]
    return Table(title, head, rows, last)
