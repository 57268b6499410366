"""The page about runs: what is shown, and the template that it is put into."""

from collections import Counter
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
from simulator.result import FINISHED, STUCK, UNFINISHED, Result
from simulator.totals import STAGE_SHARES
from simulator.units import duration

# A page shows so many requests at most: those that took longest.
MOST_REQUESTS = 200
_LONGEST_VALUE = 70
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
            "about": _about(summary),
        }
        for name, (result, summary) in runs.items()
    ]
    return environment.get_template("page.html").render(
        title=" and ".join(runs) if len(runs) < 3 else f"{len(runs)} runs",
        runs=shown,
        several=several,
        pictures=[(one, Markup(one.svg)) for one in pictures(runs)],
        tables=list(_tables(runs)),
        comparison=_compared(runs) if several else None,
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
    if len(runs) == 1:
        yield _latencies(next(iter(runs.values()))[1])
    for name, (result, summary) in runs.items():
        whose = f" of {name}" if len(runs) > 1 else ""
        if summary["clients"]:
            yield _clients(summary["clients"], f"Classes of clients{whose}")
            objectives = _objectives(summary["clients"], f"Objectives of the classes{whose}")
            yield from [objectives] if objectives else []
        if len(summary["replicas"]) > 1:
            yield _replicas(summary["replicas"], f"Replicas{whose}")
        stages = _stages(summary["replicas"], f"Pipeline stages{whose}")
        yield from [stages] if stages else []
        yield from _requests(result, whose)


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


def _requests(result: Result, whose: str) -> Iterator[Table]:
    """The requests that took longest from arrival to the last token, and those that arrived and did not end."""
    table = result.requests
    finished, open_ones = (np.flatnonzero(np.isin(result.status, codes)) for codes in ([FINISHED], [UNFINISHED, STUCK]))
    e2e_s = (table["completed_s"] - table["arrival_s"])[finished]
    finished = finished[np.argsort(-e2e_s, kind="stable")]
    for title, chosen in (("Requests, the longest first", finished), ("Requests without an end", open_ones)):
        if len(chosen):
            count = f", {MOST_REQUESTS} of {len(chosen):,}" if len(chosen) > MOST_REQUESTS else ""
            rows = [_request(result, row) for row in chosen[:MOST_REQUESTS].tolist()]
            yield Table(f"{title}{whose}{count}", [*_REQUEST_HEAD, *(["class"] if result.clients else [])], rows)


_REQUEST_HEAD = (
    *("request", "arrival, s", "prompt, tokens", "output, tokens", "waited, s", "TTFT, s", "end to end, s"),
    *("preemptions", "replica"),
)


def _request(result: Result, row: int) -> list[Cell]:
    table = result.requests
    arrival_s = float(table["arrival_s"][row])
    times = [float(table[name][row]) - arrival_s for name in ("first_scheduled_s", "first_token_s", "completed_s")]
    counts = {name: int(table[name][row]) for name in ("prompt_tokens", "output_tokens", "num_preemptions", "replica")}
    numbers = [Cell(f"{one:,}", one) for one in counts.values()]
    cells = [Cell(str(table["request_id"][row]), row), Cell(f"{arrival_s:,.2f}", arrival_s), *numbers[:2]]
    cells += [Cell("-", None) if np.isnan(one) else Cell(f"{one:.4g}", one) for one in times]
    names = [str(one) for one in result.column("client", slice(row, row + 1))] if result.clients else []
    return [*cells, *numbers[2:], *(Cell(one, one) for one in names)]


def _objectives(clients: Sequence[Mapping[str, Any]], title: str) -> Table | None:
    """What classes of clients expect, and what they got."""
    rows = [
        [
            Cell(one["client"], one["client"]),
            Cell(each["name"], each["name"]),
            *(Cell(_figure(each[key]), each[key]) for key in ("bound_s", "value_s")),
        ]
        for one in clients
        for each in (one["slo"]["objectives"] if one["slo"] else [])
    ]
    return Table(title, ["class", "objective", "bound, s", "value, s"], rows) if rows else None


def _stages(replicas: Sequence[Mapping[str, Any]], title: str) -> Table | None:
    """What the stages of pipelines did with their time."""
    rows = [
        [
            Cell(str(one["replica"]), one["replica"]),
            Cell(str(number), number),
            *(Cell(_share(stage[name]), stage[name]) for name in STAGE_SHARES),
        ]
        for one in replicas
        if one["pp"] > 1
        for number, stage in enumerate(one["stages"] or [])
    ]
    head = ["replica", "stage", *(name.replace("_", " ") for name in STAGE_SHARES)]
    return Table(title, head, rows) if rows else None


def _about(summary: Mapping[str, Any]) -> str:
    """What was simulated, in a line."""
    config, replicas = summary["config"], summary["replicas"]
    kinds = Counter((one["device"], one["tp"], one["pp"]) for one in replicas)
    parts = [f"{count} x {device} TP{tp} PP{pp}" for (device, tp, pp), count in kinds.items()]
    scheduler = str(config["scheduler"]["_target_"]).split(".")[-1]
    budget = config["scheduler"].get("token_budget")
    rate = summary["arrivals_per_s"]
    words = [
        f"{config['model']['name']} on {', '.join(parts)}",
        scheduler if budget is None else f"{scheduler} with a token budget of {budget:,}",
        f"{summary['num_requests']:,} requests" + ("" if rate is None else f", {rate:.3g} arriving per second"),
    ]
    return "; ".join(words) + "."


def _settings(runs: Runs, only_differences: bool) -> Table:
    """The configurations, a key a line."""
    flat = [dict(_flat(summary["config"])) for _, summary in runs.values()]
    if only_differences:
        # What was written says nothing about what was run.
        flat = [{key: value for key, value in one.items() if not key.startswith("output.")} for one in flat]
    rows = []
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, "-") for one in flat]
        if not only_differences or len(set(values)) > 1:
            rows.append([Cell(key, key), *(Cell(_short(value), value) for value in values)])
    return Table("What differs" if only_differences else "Configuration", ["key", *runs], rows)


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}\N{HORIZONTAL ELLIPSIS}"


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
