"""Tables that `python -m traces` prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_description(figures: Mapping[str, Any], console: Console) -> None:
    """Print the statistics that `traces.tools.describe` returned."""
    console.print(_counts(figures))
    table = Table(title="tokens", title_justify="left", title_style="dim")
    table.add_column("")
    names = ("mean", "std", "min", "p50", "p90", "p99", "max")
    for name in names:
        table.add_column(name, justify="right")
    for key, statistics in figures["lengths"].items():
        table.add_row(key.removesuffix("_tokens"), *(f"{statistics[name]:,.0f}" for name in names))
    console.print(table)
    for note in figures["notes"]:
        console.print(Text(f"note: {note}", style="bold yellow"), soft_wrap=True)


def _counts(figures: Mapping[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    skipped = figures["num_skipped_rows"]
    table.add_row("requests", f"{figures['num_requests']:,}" + (f", {skipped:,} rows skipped" if skipped else ""))
    arrivals = figures["arrivals"]
    if arrivals is None:
        table.add_row("arrivals", "no arrival times")
    elif arrivals["qps"] is None:
        table.add_row("arrivals", f"{arrivals['num_arrivals']:,}, all at once")
    else:
        table.add_row("arrivals", f"{arrivals['num_arrivals']:,} within {arrivals['span_s']:,.1f} s")
        table.add_row("rate", f"{arrivals['qps']:.4g} requests/s{_by_window(arrivals['peak_qps'], 'peak', '/s')}")
        cv = f"CV of the gaps {arrivals['gap_cv']:.3g}"
        if arrivals["time_step_s"] is not None:
            cv += f" (times recorded in steps of {arrivals['time_step_s']:g} s)"
        table.add_row("burstiness", f"{cv}{_by_window(arrivals['index_of_dispersion'], 'index of dispersion')}")
    _add_optional(table, figures)
    return table


def _add_optional(table: Table, figures: Mapping[str, Any]) -> None:
    sessions = figures["sessions"]
    if sessions is not None and sessions["turns"] is not None:
        turns = sessions["turns"]
        text = f"{sessions['num_sessions']:,}; turns per session: mean {turns['mean']:.2f}, p90 {turns['p90']}"
        table.add_row("sessions", f"{text}, max {turns['max']}")
    if figures["clients"] is not None:
        table.add_row("clients", ", ".join(f"{name} {count:,}" for name, count in figures["clients"].items()))
    prefix = figures["prefix"]
    if prefix is not None:
        size = "of the engine's block size" if prefix["block_tokens"] is None else f"of {prefix['block_tokens']} tokens"
        text = f"{prefix['num_blocks']:,} blocks {size}, {prefix['repeated_share']:.1%} of them repeated"
        if prefix["hit_rate"] is not None:
            text += f"; {prefix['hit_rate']:.1%} of the prompt tokens hit an unlimited prefix cache"
        table.add_row("prefixes", text)
    elif sessions is None or sessions["turns"] is None or sessions["turns"]["max"] == 1:
        table.add_row("prefixes", "unknown, as the file has neither block ids nor later turns of sessions")
    if figures["rank_correlation"] is not None:
        table.add_row("prompt and output", f"rank correlation {figures['rank_correlation']:.3f}")


def _by_window(values: Mapping[int, float], name: str, unit: str = "") -> str:
    if not values:
        return ""
    return f"; {name} " + ", ".join(f"{value:.3g}{unit} in {window_s:,} s" for window_s, value in values.items())


def print_match(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the comparison that `traces.tools.fit.match` returned."""
    table = Table()
    for name in ("", "trace", "generated", "error"):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        table.add_row(*match_cells(row))
    console.print(table)


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
