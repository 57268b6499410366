"""Summary of a run on the terminal."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rich.console import Console

from simulator.cli.terminal import terminal_table
from simulator.output import heading
from simulator.results import latencies_table, parts_tables, share, slo_word
from traces.shared.spelling import counted
from traces.shared.terminal import facts, note, show, warn

MAX_SHOWN_ROWS = 32  # of a table; summary.json has all


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print what was simulated, the metrics of the run and its warnings."""
    show(console, facts([*heading(summary).items(), ("", ""), *_totals(summary)]))
    show(console, "", terminal_table(latencies_table({"": summary})))
    for table in parts_tables(summary):
        show(console, "", terminal_table(replace(table, rows=table.rows[:MAX_SHOWN_ROWS]), titled=True))
        if len(table.rows) > MAX_SHOWN_ROWS:
            note(console, f"the first {MAX_SHOWN_ROWS} of {len(table.rows)} rows are shown; summary.json has all")
    show(console, "")
    for warning in summary["warnings"]:
        warn(console, warning)


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
    if summary["slo"] and summary["slo"]["objectives"]:
        yield "SLO", slo_word(summary["slo"]["met"])
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


def _number(value: float | None, digits: int) -> str:
    """Format a number, from 1,000 on with one decimal; None becomes "-"."""
    return "-" if value is None else f"{value:,.{digits if abs(value) < 1000 else 1}f}"
