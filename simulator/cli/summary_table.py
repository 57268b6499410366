"""Tables of a run's summary on the terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulator.results import LATENCIES

MAX_SHOWN_REPLICAS = 16  # tables of more replicas or clients are only in summary.json


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print the metrics of a run and its warnings."""
    console.print(_totals(summary))
    console.print(_latencies(summary))
    if len(summary["busy_fraction"] or []) > 1:
        console.print(_stages(summary))
    if len(summary["clients"]) > MAX_SHOWN_REPLICAS:
        console.print(f"summary.json has the metrics of each of the {len(summary['clients'])} clients", style="dim")
    elif summary["clients"]:
        console.print(_clients(summary["clients"]))
        if any(client["slo"] for client in summary["clients"]):
            console.print(_objectives(summary["clients"]))
    if 1 < len(summary["replicas"]) <= MAX_SHOWN_REPLICAS:
        console.print(_replicas(summary["replicas"]))
    elif len(summary["replicas"]) > MAX_SHOWN_REPLICAS:
        console.print(f"summary.json has the metrics of each of the {len(summary['replicas'])} replicas", style="dim")
    for warning in summary["warnings"]:
        console.print(Text(f"warning: {warning}", style="bold yellow"), soft_wrap=True)


def _totals(summary: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="left")
    kinds = ["finished", "ignored", "unfinished", "stuck"]
    kinds += [kind for kind in ("not_arrived", "lost") if summary[f"num_{kind}"]]
    counts = ", ".join(f"{summary[f'num_{kind}']:,} {kind.replace('_', ' ')}" for kind in kinds)
    table.add_row("requests", f"{summary['num_requests']:,}: {counts}")
    table.add_row(
        "throughput",
        f"{_number(summary['requests_per_s'], 3)} requests/s, "
        f"{_number(summary['output_tokens_per_s'], 1)} output tokens/s over {_number(summary['makespan_s'], 1)} s",
    )
    table.add_row("iterations", f"{summary['num_iterations']:,}, {summary['num_preemptions']:,} preemptions")
    faults = summary["faults"]
    if faults["num_failures"] or faults["num_slowdowns"] or faults["num_network"]:
        table.add_row(
            "faults",
            f"{_count(faults['num_failures'], 'failure')}, {_count(faults['num_slowdowns'], 'slow replica')}, "
            f"{_count(faults['num_network'], 'slow network')}; replicas were up {_percent(faults['availability'])} of "
            f"the time, {_count(faults['num_retries'], 'request')} retried, "
            f"{_count(faults['kv_tokens_lost'], 'KV token')} lost",
        )
    kv_use = summary["kv_use"]
    table.add_row(
        "KV cache",
        f"{_percent(kv_use['mean'])} used on average, {_percent(kv_use['max'])} at most, "
        f"of {kv_use['num_blocks']:,} blocks",
    )
    prefix = summary["prefix_cache"]
    if prefix is not None and prefix["hit_rate_tokens"] is None:
        table.add_row("prefix cache", "hits are unknown: the trace has neither block ids nor later turns")
    elif prefix is not None:
        table.add_row(
            "prefix cache",
            f"hit rate {_percent(prefix['hit_rate_tokens'])} of the prompt tokens, "
            f"{_percent(prefix['hit_rate_requests'])} of the requests; {prefix['num_evicted_blocks']:,} blocks evicted",
        )
    busy = summary["busy_fraction"] or []
    table.add_row("stages busy", _percents(busy) or "-")
    cluster = summary["cluster"]
    cells = [_count(cluster["num_replicas"], "replica"), _count(cluster["num_gpus"], "GPU")]
    if cluster["cost_per_hour_usd"] is not None:
        cells.append(f"${cluster['cost_per_hour_usd']:,.2f}/h")
    if cluster["cost_per_million_output_tokens_usd"] is not None:
        cells.append(f"${cluster['cost_per_million_output_tokens_usd']:,.2f} per million output tokens")
    table.add_row("cluster", ", ".join(cells))
    return table


def _stages(summary: dict[str, Any]) -> Table:
    """Return the time shares of the pipeline stages."""
    bubbles = {name: shares for name, shares in summary["bubbles"].items() if name != "down" or any(shares)}
    table = Table(title="pipeline", title_justify="left", title_style="dim")
    for name in ("stage", "busy", *bubbles):
        table.add_column(name.replace("_", " "), justify="right")
    for stage, busy in enumerate(summary["busy_fraction"]):
        table.add_row(str(stage), _percent(busy), *(_percent(shares[stage]) for shares in bubbles.values()))
    return table


def _replicas(replicas: list[dict[str, Any]]) -> Table:
    table = Table(title="replicas", title_justify="left", title_style="dim")
    for name in ("", "device", "GPUs", "requests", "tokens/s", "KV used", "busy"):
        table.add_column(name, justify="left" if name == "device" else "right")
    for replica in replicas:
        cells = (
            str(replica["replica"]),
            replica["device"],
            str(replica["num_gpus"]),
            f"{replica['num_requests']:,}",
            _number(replica["output_tokens_per_s"], 1),
            _percent(replica["kv_use"]["mean"]),
            _percents([stage["busy"] for stage in replica["stages"] or []]),
        )
        table.add_row(*cells)
    return table


def _clients(clients: list[dict[str, Any]]) -> Table:
    """Return the metrics of each client class."""
    table = Table(title="clients", title_justify="left", title_style="dim")
    for name in ("", "requests", "per s", "TTFT p90, s", "TBT p99, s", "e2e p90, s"):
        table.add_column(name, justify="right" if name else "left")
    for client in clients:
        cells = (
            client["client"],
            f"{client['num_requests']:,}",
            _number(client["requests_per_s"], 3),
            _number(client["ttft_s"]["p90"], 3),
            _number(client["tbt_s"]["p99"], 3),
            _number(client["e2e_s"]["p90"], 3),
        )
        table.add_row(*cells)
    return table


def _objectives(clients: list[dict[str, Any]]) -> Table:
    """Return the SLO of each client class, and whether it is met."""
    table = Table(title="objectives of the clients", title_justify="left", title_style="dim")
    for name in ("", "objective", "bound, s", "value, s", "SLO", "goodput"):
        table.add_column(name, justify="right" if name.endswith("s") or name == "goodput" else "left")
    for client in clients:
        slo = client["slo"]
        for number, objective in enumerate(slo["objectives"] if slo else []):
            met = {True: "met", False: "missed", None: "-"}[slo["met"]] if number == 0 else ""
            goodput = _percent(slo["goodput"]) if number == 0 else ""
            name = client["client"] if number == 0 else ""
            bound, value = f"{objective['bound_s']:g}", _number(objective["value_s"], 3)
            table.add_row(name, objective["name"], bound, value, met, goodput)
    return table


def _latencies(summary: dict[str, Any]) -> Table:
    table = Table(title="seconds", title_justify="left", title_style="dim")
    table.add_column("")
    for name in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right")
    for key, title in LATENCIES.items():
        figures = summary[key]
        table.add_row(title, *(_number(figures[name], 4) for name in ("mean", "p50", "p90", "p99", "max")))
    return table


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _number(value: float | None, digits: int) -> str:
    """Format a number, from 1,000 on with one decimal.

    Tables stay narrow this way. None becomes "-".
    """
    return "-" if value is None else f"{value:,.{digits if abs(value) < 1000 else 1}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _percents(shares: Iterable[float]) -> str:
    return ", ".join(map(_percent, shares))
