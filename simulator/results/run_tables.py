"""Tables of runs and of their parts."""

from collections.abc import Iterator, Mapping
from typing import Any

from simulator.results.formatting import (
    bounds_text,
    count,
    dollars,
    figure,
    milliseconds,
    objective_label,
    objective_text,
    objective_value,
    share,
    slo_word,
)
from simulator.results.latency import LATENCIES, STATISTICS
from simulator.results.status import STATUS_NAMES
from simulator.results.summary import STAGE_SHARES
from simulator.results.tables import Cell, Column, Table, Values, cell, flat, side_by_side, table_of

Summaries = Mapping[str, Mapping[str, Any]]
_ON_PAGES = ("p95",)


def latency_column(metric: str, statistic: str) -> Column:
    """Return the column of a latency, such as "TTFT p90, ms"."""
    label = objective_label(f"{metric.removesuffix('_s')}_{statistic}")
    return Column(f"{metric}.{statistic}", f"{label}, ms", milliseconds)


_FIGURES = (
    Column("requests_per_s", "requests/s"),
    Column("output_tokens_per_s", "output tokens/s"),
    Column("num_requests", "requests", count),
    *(Column(name, name.removeprefix("num_").replace("_", " "), count) for name in STATUS_NAMES),
    Column("slo.goodput", "goodput", share),
    Column("slo.goodput_qps", "goodput, requests/s"),
    Column("num_iterations", "iterations", count),
    Column("num_preemptions", "preemptions", count),
    Column("kv_use.mean", "KV cache used, mean", share),
    Column("kv_use.max", "KV cache used, most", share),
    Column("kv_use.num_blocks", "KV blocks", count),
    Column("prefix_cache.hit_rate_tokens", "prompt tokens found in the prefix cache", share),
    Column("prefix_cache.num_evicted_blocks", "KV blocks evicted", count),
    Column("busy", "stages busy", share),
    Column("cluster.num_gpus", "GPUs", count),
    Column("cluster.cost_per_hour_usd", "cost per hour", dollars),
    Column("cluster.cost_per_million_output_tokens_usd", "cost per million output tokens", dollars),
    Column("faults.num_failures", "replica failures", count),
    Column("faults.num_retries", "requests retried", count),
    Column("faults.kv_tokens_lost", "KV tokens lost", count),
    Column("faults.availability", "replicas up", share),
)
# Left out if they are 0 in every run.
_ONLY_IF_ANY = (
    *(name for name in STATUS_NAMES if name != "num_finished"),
    *("faults.num_failures", "faults.num_retries", "faults.kv_tokens_lost"),
)
_CLIENTS = (
    Column("client", "class", str),
    Column("num_requests", "requests", count),
    Column("requests_per_s", "requests/s"),
    latency_column("ttft_s", "p90"),
    latency_column("tbt_s", "p99"),
    latency_column("tpot_s", "p90"),
    latency_column("e2e_s", "p90"),
    Column("verdict", "SLO", str, is_detail=True),
    Column("slo.goodput", "goodput", share, is_detail=True),
)
_REPLICAS = (
    Column("name", "replica", str),
    Column("device", "device", str),
    Column("num_gpus", "GPUs", count),
    Column("num_requests", "requests", count),
    Column("num_iterations", "iterations", count, is_detail=True),
    Column("num_preemptions", "preemptions", count, is_detail=True),
    Column("output_tokens_per_s", "tokens/s", "{:,.1f}".format),
    Column("kv_use.mean", "KV used", share),
    Column("busy", "busy", share),
)


def figures_table(summaries: Summaries) -> Table:
    """Return throughput, memory, cost and requests; of several runs side by side."""
    runs = {name: _figures(summary) for name, summary in summaries.items()}
    columns = [
        column
        for column in _FIGURES
        if column.name not in _ONLY_IF_ANY or any(run.get(column.name) for run in runs.values())
    ]
    if len(runs) > 1:
        return side_by_side("Figures side by side", "figure", columns, runs)
    return side_by_side("Figures", "figure", columns, dict(zip(["value"], runs.values(), strict=True)))


def _figures(summary: Mapping[str, Any]) -> Values:
    """Return the figures of a run by name; availability only with failures."""
    busy = [share for replica in summary["replicas"] for share in _busy(replica)]
    figures = flat(summary) | {"busy": _mean(busy)}
    return figures if summary["faults"]["num_failures"] else figures | {"faults.availability": None}


def latencies_table(summaries: Summaries) -> Table:
    """Return the latencies by statistic; of several runs side by side."""
    if len(summaries) > 1:
        columns = [latency_column(metric, statistic) for metric in LATENCIES for statistic in STATISTICS]
        runs = {name: flat(summary) for name, summary in summaries.items()}
        return side_by_side("Latencies side by side", "latency", columns, runs)
    columns = [Column("name", "latency, ms", str)]
    columns += [Column(name, name, milliseconds, is_detail=name in _ON_PAGES) for name in STATISTICS]
    (summary,) = summaries.values()
    return table_of("Latencies", columns, ({"name": name, **summary[metric]} for metric, name in LATENCIES.items()))


def parts_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables of client classes, SLOs, replicas and pipeline stages."""
    clients, replicas = summary["clients"], summary["replicas"]
    if clients:
        yield table_of("Client classes", _CLIENTS, map(_client, clients))
    objectives = list(_objectives("all requests", summary["slo"]))
    objectives += [row for client in clients for row in _objectives(client["client"], client["slo"])]
    if objectives:
        yield Table("SLO", ["class", "objective", "value", "SLO"], objectives)
    if len(replicas) > 1:
        yield table_of("Replicas", _REPLICAS, map(_replica, replicas))
    stages = list(_stages(summary))
    if stages:
        shares = [name for name in STAGE_SHARES if name != "down" or any(stage[name] for stage in stages)]
        columns = [Column("name", "stage", str), *(Column(name, name.replace("_", " "), share) for name in shares)]
        yield table_of("Pipeline stages", columns, stages)


def _client(client: Mapping[str, Any]) -> Values:
    return flat(client) | {"verdict": slo_word(client["slo"]["met"]) if client["slo"] else "none"}


def _objectives(owner: str, slo: Mapping[str, Any] | None) -> Iterator[list[Cell]]:
    """Yield the objectives of a run or a class, then its goodput."""
    if slo is None:
        return
    for objective in slo["objectives"]:
        name, value, verdict = objective["name"], objective["value"], slo_word(objective["met"])
        measured = Cell(objective_value(name, value), value, "missed" if verdict == "missed" else "")
        yield [cell(owner), cell(objective_text(name, objective["bound"])), measured, cell(verdict)]
    if slo["request_bounds_s"]:
        goodput = cell(f"goodput within {bounds_text(slo['request_bounds_s'])} ({slo['num_judged']:,} judged)")
        yield [cell(owner), goodput, cell(slo["goodput"], share), cell(None)]
        yield [cell(owner), cell("goodput, requests/s"), cell(slo["goodput_qps"], figure), cell(None)]


def _replica(replica: Mapping[str, Any]) -> Values:
    return flat(replica) | {"name": f"replica {replica['replica']}", "busy": _mean(_busy(replica))}


def _stages(summary: Mapping[str, Any]) -> Iterator[Values]:
    """Yield the time shares of stages: means over replicas, then each replica."""
    busy, replicas = summary["busy_fraction"] or [], summary["replicas"]
    if len(busy) < 2:
        return
    for stage in range(len(busy)):
        bubbles = {name: shares[stage] for name, shares in summary["bubbles"].items()}
        yield {"name": f"stage {stage}", "busy": busy[stage], **bubbles}
    for replica in replicas if len(replicas) > 1 else []:
        for stage, shares in enumerate(replica["stages"] or []) if replica["pp"] > 1 else []:
            yield {"name": f"replica {replica['replica']}, stage {stage}", **shares}


def _busy(replica: Mapping[str, Any]) -> list[float]:
    return [stage["busy"] for stage in replica["stages"] or []]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
