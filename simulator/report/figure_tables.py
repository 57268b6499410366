"""Tables of the figures of runs and of their parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from simulator.report.tables import Cell, Format, Table, count, dollars, number, word
from simulator.results import (
    LATENCIES,
    STAGE_SHARES,
    STATISTICS,
    figure,
    milliseconds,
    objective_label,
    objective_value,
    share,
    slo_word,
)

Summaries = Mapping[str, Mapping[str, Any]]


def figures_table(summaries: Summaries) -> Table:
    """Return the figures of each run: throughput, memory, cost, requests.

    Each run after the first has its difference to the first.
    """
    values_of = {label: [of(summary) for summary in summaries.values()] for label, of, _ in _FIGURES}
    rows = [
        [word(label), *_with_changes(values_of[label], text)]
        for label, _, text in _FIGURES
        if any(value is not None for value in values_of[label]) and (label not in _ONLY_IF_ANY or any(values_of[label]))
    ]
    title = "Figures side by side" if len(summaries) > 1 else "Figures"
    head = ["figure", *(summaries if len(summaries) > 1 else ["value"])]
    return Table(title, head, rows)


def _busy(summary: Mapping[str, Any]) -> float | None:
    stages = [stage["busy"] for replica in summary["replicas"] for stage in replica["stages"] or []]
    return sum(stages) / len(stages) if stages else None


_FIGURES: Sequence[tuple[str, Callable[[Mapping[str, Any]], float | None], Format]] = (
    ("requests/s", lambda summary: summary["requests_per_s"], figure),
    ("output tokens/s", lambda summary: summary["output_tokens_per_s"], figure),
    ("requests", lambda summary: summary["num_requests"], count),
    ("finished", lambda summary: summary["num_finished"], count),
    ("ignored", lambda summary: summary["num_ignored"], count),
    ("unfinished", lambda summary: summary["num_unfinished"], count),
    ("stuck", lambda summary: summary["num_stuck"], count),
    ("not arrived", lambda summary: summary["num_not_arrived"], count),
    ("lost", lambda summary: summary["num_lost"], count),
    ("goodput", lambda summary: summary["slo"] and summary["slo"]["goodput"], share),
    ("goodput, requests/s", lambda summary: summary["slo"] and summary["slo"]["goodput_qps"], figure),
    ("iterations", lambda summary: summary["num_iterations"], count),
    ("preemptions", lambda summary: summary["num_preemptions"], count),
    ("KV cache used, mean", lambda summary: summary["kv_use"]["mean"], share),
    ("KV cache used, most", lambda summary: summary["kv_use"]["max"], share),
    ("KV blocks", lambda summary: summary["kv_use"]["num_blocks"], count),
    (
        "prompt tokens found in the prefix cache",
        lambda summary: summary["prefix_cache"] and summary["prefix_cache"]["hit_rate_tokens"],
        share,
    ),
    (
        "KV blocks evicted",
        lambda summary: summary["prefix_cache"] and summary["prefix_cache"]["num_evicted_blocks"],
        count,
    ),
    ("stages busy", _busy, share),
    ("GPUs", lambda summary: summary["cluster"]["num_gpus"], count),
    ("cost per hour", lambda summary: summary["cluster"]["cost_per_hour_usd"], dollars),
    (
        "cost per million output tokens",
        lambda summary: summary["cluster"]["cost_per_million_output_tokens_usd"],
        dollars,
    ),
    ("replica failures", lambda summary: summary["faults"]["num_failures"], count),
    ("requests retried", lambda summary: summary["faults"]["num_retries"], count),
    ("KV tokens lost", lambda summary: summary["faults"]["kv_tokens_lost"], count),
    (
        "replicas up",
        lambda summary: summary["faults"]["availability"] if summary["faults"]["num_failures"] else None,
        share,
    ),
)
# Left out if they are 0 in every run.
_ONLY_IF_ANY = (
    "ignored",
    "unfinished",
    "stuck",
    "not arrived",
    "lost",
    "replica failures",
    "requests retried",
    "KV tokens lost",
)


def _with_changes(values: Sequence[float | None], text: Format) -> Iterator[Cell]:
    first = values[0]
    for index, value in enumerate(values):
        change = f"{value / first - 1:+.0%}" if index and first and value is not None else ""
        yield Cell(f"{text(value)} ({change})" if change.strip("+-0%") else text(value), value)


def latencies_table(summaries: Summaries) -> Table:
    """Return the latencies: of one run by statistic, of several by run."""
    if len(summaries) == 1:
        (summary,) = summaries.values()
        rows = [
            [word(title), *(number(summary[metric][statistic], milliseconds) for statistic in STATISTICS)]
            for metric, title in LATENCIES.items()
        ]
        return Table("Latencies, ms", ["latency", *map(_statistic_label, STATISTICS)], rows)
    rows = []
    for metric, title in LATENCIES.items():
        for statistic in STATISTICS:
            values = [summary[metric][statistic] for summary in summaries.values()]
            rows.append([word(f"{title}, {_statistic_label(statistic)}"), *_with_changes(values, milliseconds)])
    return Table("Latencies side by side, ms", ["latency", *summaries], rows)


def parts_tables(summary: Mapping[str, Any], of_run: str) -> Iterator[Table]:
    """Yield the tables of client classes, SLOs, replicas and pipeline stages.

    Args:
        summary: Its summary.json.
        of_run: End of their titles, such as " of sarathi".
    """
    if summary["clients"]:
        yield _clients(summary["clients"], f"Client classes{of_run}")
    objectives = _objectives(summary, f"SLO{of_run}")
    yield from [objectives] if objectives.rows else []
    if len(summary["replicas"]) > 1:
        yield _replicas(summary["replicas"], f"Replicas{of_run}")
    stages = _stages(summary["replicas"], f"Pipeline stages{of_run}")
    yield from [stages] if stages.rows else []


def _clients(clients: Sequence[Mapping[str, Any]], title: str) -> Table:
    rows = []
    for client in clients:
        slo = client["slo"]
        met = slo_word(slo["met"]) if slo else "none"
        metrics = (("ttft_s", "p90"), ("tbt_s", "p99"), ("tpot_s", "p90"), ("e2e_s", "p90"))
        cells = [word(client["client"]), number(client["num_requests"], count), number(client["requests_per_s"])]
        cells += [number(client[metric][statistic], milliseconds) for metric, statistic in metrics]
        rows.append([*cells, word(met), number(slo["goodput"] if slo else None, share)])
    head = ["class", "requests", "requests/s", "TTFT P90, ms", "TBT P99, ms", "TPOT P90, ms", "E2E P90, ms"]
    return Table(title, [*head, "SLO", "goodput"], rows)


def _objectives(summary: Mapping[str, Any], title: str) -> Table:
    """Return the objectives of a run and of its client classes."""
    owners = [("all requests", summary["slo"]), *((client["client"], client["slo"]) for client in summary["clients"])]
    rows = [
        [
            word(owner),
            word(objective_label(objective["name"])),
            *(Cell(objective_value(objective["name"], objective[key]), objective[key]) for key in ("bound", "value")),
        ]
        for owner, slo in owners
        for objective in (slo["objectives"] if slo else [])
    ]
    return Table(title, ["class", "objective", "bound", "value"], rows)


def _replicas(replicas: Sequence[Mapping[str, Any]], title: str) -> Table:
    rows = []
    for replica in replicas:
        busy = [stage["busy"] for stage in replica["stages"] or []]
        cells = [Cell(f"replica {replica['replica']}", replica["replica"]), word(replica["device"])]
        cells += [
            number(replica[name], count) for name in ("num_gpus", "num_requests", "num_iterations", "num_preemptions")
        ]
        cells += [number(replica["output_tokens_per_s"]), number(replica["kv_use"]["mean"], share)]
        rows.append([*cells, number(sum(busy) / len(busy) if busy else None, share)])
    head = ["replica", "device", "GPUs", "requests", "iterations", "preemptions", "tokens/s", "KV used", "busy"]
    return Table(title, head, rows)


def _stages(replicas: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the time shares of pipeline stages."""
    rows = [
        [
            Cell(f"replica {replica['replica']}, stage {stage_number}", f"{replica['replica']:04} {stage_number:04}"),
            *(number(stage[name], share) for name in STAGE_SHARES),
        ]
        for replica in replicas
        if replica["pp"] > 1
        for stage_number, stage in enumerate(replica["stages"] or [])
    ]
    return Table(title, ["stage", *(name.replace("_", " ") for name in STAGE_SHARES)], rows)


def _statistic_label(statistic: str) -> str:
    """Return the name of a column or row of a statistic."""
    return statistic.upper() if statistic.startswith("p") else statistic
