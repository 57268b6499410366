"""Tables that `python -m traces` prints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from traces.shared.terminal import facts, new_table, show, warn


def print_description(figures: Mapping[str, Any], console: Console) -> None:
    """Print the statistics that `traces.tools.describe` returned."""
    names = ("mean", "std", "min", "p50", "p90", "p99", "max")
    table = new_table(["tokens", *names])
    for key, statistics in figures["lengths"].items():
        table.add_row(key.removesuffix("_tokens"), *(f"{statistics[name]:,.0f}" for name in names))
    show(console, facts(_counts(figures)), "", table)
    for note in figures["notes"]:
        warn(console, note, "note")


def _counts(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    skipped = figures["num_skipped_rows"]
    yield "requests", f"{figures['num_requests']:,}" + (f", {skipped:,} rows skipped" if skipped else "")
    arrivals = figures["arrivals"]
    if arrivals is None:
        yield "arrivals", "no arrival times"
    elif arrivals["qps"] is None:
        yield "arrivals", f"{arrivals['num_arrivals']:,}, all at once"
    else:
        yield "arrivals", f"{arrivals['num_arrivals']:,} within {arrivals['span_s']:,.1f} s"
        yield "rate", f"{arrivals['qps']:.4g} requests/s{_by_window(arrivals['peak_qps'], 'peak', '/s')}"
        cv = f"CV of the gaps {arrivals['gap_cv']:.3g}"
        if arrivals["time_step_s"] is not None:
            cv += f" (times recorded in steps of {arrivals['time_step_s']:g} s)"
        yield "burstiness", f"{cv}{_by_window(arrivals['index_of_dispersion'], 'index of dispersion')}"
    yield from _optional(figures)


def _optional(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sessions = figures["sessions"]
    if sessions is not None and sessions["turns"] is not None:
        turns = sessions["turns"]
        text = f"{sessions['num_sessions']:,}; turns per session: mean {turns['mean']:.2f}, p90 {turns['p90']}"
        yield "sessions", f"{text}, max {turns['max']}"
    if figures["clients"] is not None:
        yield "clients", ", ".join(f"{name} {count:,}" for name, count in figures["clients"].items())
    prefix = figures["prefix"]
    if prefix is not None:
        size = "of the engine's block size" if prefix["block_tokens"] is None else f"of {prefix['block_tokens']} tokens"
        text = f"{prefix['num_blocks']:,} blocks {size}, {prefix['repeated_share']:.1%} of them repeated"
        if prefix["hit_rate"] is not None:
            text += f"; {prefix['hit_rate']:.1%} of the prompt tokens hit an unlimited prefix cache"
        yield "prefixes", text
    elif sessions is None or sessions["turns"] is None or sessions["turns"]["max"] == 1:
        yield "prefixes", "unknown, as the file has neither block ids nor later turns of sessions"
    if figures["rank_correlation"] is not None:
        yield "prompt and output", f"rank correlation {figures['rank_correlation']:.3f}"


def _by_window(values: Mapping[int, float], name: str, unit: str = "") -> str:
    if not values:
        return ""
    return f"; {name} " + ", ".join(f"{value:.3g}{unit} in {window_s:,} s" for window_s, value in values.items())


def print_match(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the comparison that `traces.tools.fit.match` returned."""
    table = new_table(["", "trace", "generated", "error"])
    for row in rows:
        table.add_row(*match_cells(row))
    show(console, table)


def match_cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return the cells of a row of `match` as text."""
    error = "-" if row["error"] is None else f"{row['error']:+.1%}"
    if row["trace"] is None:
        return row["name"], "", "", f"{row['error']:.3f} apart"
    if row["name"] == "rank correlation":
        error = f"{row['error']:+.3f}"
    return row["name"], _number(row["trace"]), _number(row["generated"]), error


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
