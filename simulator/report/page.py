"""The page about runs: what is shown, and the template that it is put into."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simulator import __version__
from simulator.metrics import LATENCIES, SUMMARY
from simulator.report.drawing import pictures
from simulator.report.limits import limits, utilisation
from simulator.result import IGNORED, Result
from simulator.units import duration

# A page shows so many requests at most: those that took longest.
MOST_REQUESTS = 200
Runs = Mapping[str, tuple[Result, Mapping[str, Any]]]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is shown.
        key: What it is sorted by, a number or text; None: sorted last.
    """

    text: str
    key: float | str | None


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by its columns.

    Attributes:
        title: What it is about.
        head: Names of the columns.
        rows: Cells, line by line.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def page(runs: Runs) -> str:
    """Return the HTML of a page.

    Args:
        runs: Result and summary by name.
    """
    environment = Environment(loader=PackageLoader("simulator.report"), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    several = len(runs) > 1
    shown = [
        {
            "name": name,
            "cards": _cards(summary),
            "warnings": summary["warnings"],
            "limits": limits(result),
            "utilisation": utilisation(result),
        }
        for name, (result, summary) in runs.items()
    ]
    return environment.get_template("page.html").render(
        title=" and ".join(runs) if len(runs) < 3 else f"{len(runs)} runs",
        runs=shown,
        several=several,
        pictures=[(one, Markup(one.svg)) for one in pictures(runs)],
        tables=list(_tables(runs)),
        differences=_settings(runs, only_differences=True) if several else None,
        configurations=_settings(runs, only_differences=False),
        version=__version__,
    )


def _cards(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and remark of the figures at the top."""
    cost = summary["cluster"]["cost_per_million_output_tokens_usd"]
    busy = [stage["busy"] for replica in summary["replicas"] for stage in replica["stages"] or []]
    cards = [
        ("requests", f"{summary['num_finished']:,}", f"finished, of {summary['num_requests']:,}"),
        (
            "throughput",
            f"{_figure(summary['requests_per_s'])}/s",
            f"{_figure(summary['output_tokens_per_s'])} tokens/s",
        ),
        ("TTFT, P50", duration(summary["ttft_s"]["p50"]), f"P99 {duration(summary['ttft_s']['p99'])}"),
        ("TBT, P99", duration(summary["tbt_s"]["p99"]), f"P50 {duration(summary['tbt_s']['p50'])}"),
        ("end to end, P50", duration(summary["e2e_s"]["p50"]), f"P99 {duration(summary['e2e_s']['p99'])}"),
        ("KV cache", _share(summary["kv_use"]["mean"]), f"at most {_share(summary['kv_use']['max'])}"),
        ("stages busy", _share(float(np.mean(busy)) if busy else None), _count(summary["cluster"]["num_gpus"], "GPU")),
    ]
    if cost is not None:
        cards.append(("cost", f"${cost:,.2f}", "per million output tokens"))
    return cards


def _tables(runs: Runs) -> Iterator[Table]:
    yield _compared(runs) if len(runs) > 1 else _latencies(next(iter(runs.values()))[1])
    for name, (result, summary) in runs.items():
        whose = f" of {name}" if len(runs) > 1 else ""
        if summary["clients"]:
            yield _clients(summary["clients"], f"Classes of clients{whose}")
        if len(summary["replicas"]) > 1:
            yield _replicas(summary["replicas"], f"Replicas{whose}")
        yield _requests(result, whose)


def _compared(runs: Runs) -> Table:
    """Every latency and throughput in each run, with the difference to the first one."""
    summaries = [summary for _, summary in runs.values()]
    rows = [
        [Cell(title, title), *_beside([one[name] for one in summaries])]
        for name, title in (("requests_per_s", "requests/s"), ("output_tokens_per_s", "output tokens/s"))
    ]
    for metric, title in LATENCIES.items():
        for which in SUMMARY:
            values = [one[metric][which] for one in summaries]
            rows.append(
                [Cell(f"{title}, {which.upper() if which.startswith('p') else which}, s", title), *_beside(values)]
            )
    return Table("Figures side by side", ["figure", *runs], rows)


def _beside(values: Sequence[float | None]) -> list[Cell]:
    cells = []
    for place, value in enumerate(values):
        first = values[0]
        change = f" ({value / first - 1:+.0%})" if place and first and value is not None else ""
        cells.append(Cell("-" if value is None else f"{value:.4g}{change}", value))
    return cells


def _latencies(summary: Mapping[str, Any]) -> Table:
    rows = [
        [Cell(title, title), *(Cell(_figure(summary[metric][which]), summary[metric][which]) for which in SUMMARY)]
        for metric, title in LATENCIES.items()
    ]
    return Table("Latencies, s", ["latency", *(one.upper() if one.startswith("p") else one for one in SUMMARY)], rows)


def _clients(clients: Sequence[Mapping[str, Any]], title: str) -> Table:
    rows = []
    for one in clients:
        slo = one["slo"]
        figures = [one["requests_per_s"], one["ttft_s"]["p90"], one["tbt_s"]["p99"], one["e2e_s"]["p90"]]
        met = {True: "met", False: "missed", None: "-"}[slo["met"]] if slo else "none"
        goodput = slo["goodput"] if slo else None
        cells = [Cell(one["client"], one["client"]), Cell(f"{one['num_requests']:,}", one["num_requests"])]
        cells += [Cell(_figure(value), value) for value in figures]
        rows.append([*cells, Cell(met, met), Cell(_share(goodput), goodput)])
    head = ["class", "requests", "requests/s", "TTFT P90, s", "TBT P99, s", "end to end P90, s", "SLO", "goodput"]
    return Table(title, head, rows)


def _replicas(replicas: Sequence[Mapping[str, Any]], title: str) -> Table:
    rows = []
    for one in replicas:
        busy = float(np.mean([stage["busy"] for stage in one["stages"]])) if one["stages"] else None
        numbers = [one["num_gpus"], one["num_requests"], one["num_iterations"], one["num_preemptions"]]
        cells = [Cell(str(one["replica"]), one["replica"]), Cell(one["device"], one["device"])]
        cells += [Cell(f"{number:,}", number) for number in numbers]
        cells += [Cell(_figure(one["output_tokens_per_s"]), one["output_tokens_per_s"])]
        rows.append([*cells, *(Cell(_share(value), value) for value in (one["kv_use"]["mean"], busy))])
    head = ["replica", "device", "GPUs", "requests", "iterations", "preemptions", "tokens/s", "KV used", "busy"]
    return Table(title, head, rows)


def _requests(result: Result, whose: str) -> Table:
    """The requests that took longest from arrival to the last token: first those that did not end; none refused."""
    table = result.requests
    e2e_s = table["completed_s"] - table["arrival_s"]
    arrived = np.flatnonzero(~np.isnan(table["arrival_s"]) & (result.status != IGNORED))
    order = arrived[np.argsort(-np.where(np.isnan(e2e_s), np.inf, e2e_s)[arrived], kind="stable")][:MOST_REQUESTS]
    rows = []
    for row in order.tolist():
        arrival_s = float(table["arrival_s"][row])
        times = [float(table[name][row]) - arrival_s for name in ("first_scheduled_s", "first_token_s", "completed_s")]
        tokens = [int(table[name][row]) for name in ("prompt_tokens", "output_tokens", "num_preemptions")]
        replica = int(table["replica"][row])
        request = str(table["request_id"][row])
        cells = [
            Cell(request, row),
            Cell(f"{arrival_s:,.2f}", arrival_s),
            *(Cell(f"{one:,}", one) for one in tokens[:2]),
        ]
        cells += [Cell("-", None) if np.isnan(one) else Cell(f"{one:.4g}", one) for one in times]
        rows.append([*cells, Cell(str(tokens[2]), tokens[2]), Cell(str(replica) if replica >= 0 else "-", replica)])
    longest = f"The {MOST_REQUESTS} requests that took longest, first those without an end"
    title = "Requests" if len(arrived) <= MOST_REQUESTS else longest
    head = ["request", "arrival, s", "prompt, tokens", "output, tokens", "waited, s", "TTFT, s", "end to end, s"]
    return Table(f"{title}{whose}", [*head, "preemptions", "replica"], rows)


def _settings(runs: Runs, only_differences: bool) -> Table:
    """The configurations, a key a line."""
    flat = [dict(_flat(summary["config"])) for _, summary in runs.values()]
    rows = []
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, "-") for one in flat]
        if not only_differences or len(set(values)) > 1:
            rows.append([Cell(key, key), *(Cell(value, value) for value in values)])
    return Table("What differs" if only_differences else "Configuration", ["key", *runs], rows)


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, "null" if node is None else str(node).lower() if isinstance(node, bool) else str(node)


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' if number > 1 else ''}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
