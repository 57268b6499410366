"""Summary of a run on the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from simulator.output import heading
from simulator.results import (
    LATENCIES,
    milliseconds,
    objective_text,
    objective_value,
    share,
    slo_word,
)
from traces.shared.spelling import counted
from traces.shared.terminal import facts, new_table, note, show, warn

MAX_SHOWN_REPLICAS = 16  # tables of more replicas or clients are only in summary.json
_SHOWN_STATISTICS = ("mean", "p50", "p90", "p99", "max")


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print what was simulated, the metrics of the run and its warnings."""
    show(console, facts([*heading(summary).items(), ("", ""), *_totals(summary)]))
    for table in (_latencies(summary), *_optional_tables(summary)):
        show(console, "", table)
    show(console, "")
    for name in ("clients", "replicas"):
        if len(summary[name]) > MAX_SHOWN_REPLICAS:
            note(console, f"summary.json has the metrics of each of the {len(summary[name])} {name}")
    for warning in summary["warnings"]:
        warn(console, warning)


def _optional_tables(summary: dict[str, Any]) -> Iterator[Table]:
    if len(summary["busy_fraction"] or []) > 1:
        yield _stages(summary)
    if 0 < len(summary["clients"]) <= MAX_SHOWN_REPLICAS:
        yield _clients(summary["clients"])
        if any(client["slo"] for client in summary["clients"]):
            yield _objectives(summary["clients"])
    if 1 < len(summary["replicas"]) <= MAX_SHOWN_REPLICAS:
        yield _replicas(summary["replicas"])


def _totals(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kinds = ["finished", "ignored", "unfinished", "stuck"]
    kinds += [kind for kind in ("not_arrived", "lost") if summary[f"num_{kind}"]]
    counts = ", ".join(f"{summary[f'num_{kind}']:,} {kind.replace('_', ' ')}" for kind in kinds)
    yield "requests", f"{summary['num_requests']:,}: {counts}"
    yield (
        "throughput",
        f"{_number(summary['requests_per_s'], 3)} requests/s, "
        f"{_number(summary['output_tokens_per_s'], 1)} output tokens/s over {_number(summary['makespan_s'], 1)} s",
    )
    yield from _slo(summary["slo"])
    yield "iterations", f"{summary['num_iterations']:,}, {summary['num_preemptions']:,} preemptions"
    yield from _faults(summary["faults"])
    kv_use = summary["kv_use"]
    yield (
        "KV cache",
        f"{share(kv_use['mean'])} used on average, {share(kv_use['max'])} at most, of {kv_use['num_blocks']:,} blocks",
    )
    prefix = summary["prefix_cache"]
    if prefix is not None and prefix["hit_rate_tokens"] is None:
        yield "prefix cache", "hits are unknown: the trace has neither block ids nor later turns"
    elif prefix is not None:
        yield (
            "prefix cache",
            f"hit rate {share(prefix['hit_rate_tokens'])} of the prompt tokens, "
            f"{share(prefix['hit_rate_requests'])} of the requests; {prefix['num_evicted_blocks']:,} blocks evicted",
        )
    yield "stages busy", ", ".join(map(share, summary["busy_fraction"] or [])) or "-"
    yield "cluster", ", ".join(_cluster(summary["cluster"]))


def _slo(slo: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield the verdict on the SLO, and the goodput."""
    if slo is None:
        return
    values = ", ".join(
        f"{objective_text(entry['name'], entry['bound'])}: {objective_value(entry['name'], entry['value'])}"
        for entry in slo["objectives"]
    )
    if slo["objectives"]:
        yield "SLO", f"{slo_word(slo['met'])} ({values})"
    if slo["request_bounds_s"]:
        yield "goodput", _goodput(slo)


def _goodput(slo: Mapping[str, Any]) -> str:
    bounds = ", ".join(objective_text(name, bound) for name, bound in slo["request_bounds_s"].items())
    if slo["goodput"] is None:
        return f"unknown: no request had the time to miss {bounds}"
    rate = f"{_number(slo['goodput_qps'], 3)} requests/s"
    return f"{share(slo['goodput'])} of {counted(slo['num_judged'], 'request')}, {rate}, within {bounds}"


def _faults(faults: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if faults["num_failures"] or faults["num_slowdowns"] or faults["num_network"]:
        yield (
            "faults",
            f"{counted(faults['num_failures'], 'failure')}, {counted(faults['num_slowdowns'], 'slow replica')}, "
            f"{counted(faults['num_network'], 'slow network')}; replicas were up {share(faults['availability'])} of "
            f"the time, {counted(faults['num_retries'], 'request')} retried, "
            f"{counted(faults['kv_tokens_lost'], 'KV token')} lost",
        )


def _cluster(cluster: Mapping[str, Any]) -> Iterator[str]:
    yield counted(cluster["num_replicas"], "replica")
    yield counted(cluster["num_gpus"], "GPU")
    if cluster["cost_per_hour_usd"] is not None:
        yield f"${cluster['cost_per_hour_usd']:,.2f}/h"
    if cluster["cost_per_million_output_tokens_usd"] is not None:
        yield f"${cluster['cost_per_million_output_tokens_usd']:,.2f} per million output tokens"


def _stages(summary: dict[str, Any]) -> Table:
    """Return the time shares of the pipeline stages."""
    bubbles = {name: shares for name, shares in summary["bubbles"].items() if name != "down" or any(shares)}
    table = new_table([name.replace("_", " ") for name in ("stage", "busy", *bubbles)], "pipeline")
    for stage, busy in enumerate(summary["busy_fraction"]):
        table.add_row(str(stage), share(busy), *(share(shares[stage]) for shares in bubbles.values()))
    return table


def _replicas(replicas: list[dict[str, Any]]) -> Table:
    columns = ["replica", "device", "GPUs", "requests", "tokens/s", "KV used", "busy"]
    table = new_table(columns, "replicas", left=["device"])
    for replica in replicas:
        cells = (
            str(replica["replica"]),
            replica["device"],
            str(replica["num_gpus"]),
            f"{replica['num_requests']:,}",
            _number(replica["output_tokens_per_s"], 1),
            share(replica["kv_use"]["mean"]),
            _shares([stage["busy"] for stage in replica["stages"] or []]),
        )
        table.add_row(*cells)
    return table


def _clients(clients: list[dict[str, Any]]) -> Table:
    """Return the metrics of each client class."""
    columns = ["class", "requests", "per s", "TTFT p90, ms", "TBT p99, ms", "TPOT p90, ms", "E2E p90, ms"]
    table = new_table(columns, "client classes")
    for client in clients:
        cells = (
            client["client"],
            f"{client['num_requests']:,}",
            _number(client["requests_per_s"], 3),
            milliseconds(client["ttft_s"]["p90"]),
            milliseconds(client["tbt_s"]["p99"]),
            milliseconds(client["tpot_s"]["p90"]),
            milliseconds(client["e2e_s"]["p90"]),
        )
        table.add_row(*cells)
    return table


def _objectives(clients: list[dict[str, Any]]) -> Table:
    """Return the objectives of each client class, and whether they are met."""
    table = new_table(["class", "objective", "value", "SLO"], "objectives", left=["objective", "SLO"])
    for client in clients:
        slo = client["slo"] or {"objectives": [], "request_bounds_s": {}}
        rows = [
            (
                objective_text(objective["name"], objective["bound"]),
                objective_value(objective["name"], objective["value"]),
                slo_word(objective["met"]),
            )
            for objective in slo["objectives"]
        ]
        rows += [(f"goodput: {_goodput(slo)}", "", "")] if slo["request_bounds_s"] else []
        for number, row in enumerate(rows):
            table.add_row(client["client"] if number == 0 else "", *row)
    return table


def _latencies(summary: dict[str, Any]) -> Table:
    table = new_table(["latency, ms", *_SHOWN_STATISTICS])
    for key, name in LATENCIES.items():
        table.add_row(name, *(milliseconds(summary[key][statistic]) for statistic in _SHOWN_STATISTICS))
    return table


def _number(value: float | None, digits: int) -> str:
    """Format a number, from 1,000 on with one decimal; None becomes "-"."""
    return "-" if value is None else f"{value:,.{digits if abs(value) < 1000 else 1}f}"


def _shares(values: Iterable[float]) -> str:
    return ", ".join(map(share, values))
