"""The tables of a page about runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.results import FINISHED, LATENCIES, STAGE_SHARES, STUCK, SUMMARY, UNFINISHED, Result, figure, share

# A table of requests shows so many at most.
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


def tables(runs: Runs) -> Iterator[Table]:
    """Yield the tables below the pictures: latencies of a single run; classes, replicas and requests of each."""
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


def compared(runs: Runs) -> Table:
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
        [Cell(title, title), *(Cell(figure(summary[metric][which]), summary[metric][which]) for which in SUMMARY)]
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
        cells += [Cell(figure(value), value) for value in figures]
        rows.append([*cells, Cell(met, met), Cell(share(goodput), goodput)])
    head = ["class", "requests", "requests/s", "TTFT P90, s", "TBT P99, s", "end to end P90, s", "SLO", "goodput"]
    return Table(title, head, rows)


def _replicas(replicas: Sequence[Mapping[str, Any]], title: str) -> Table:
    rows = []
    for one in replicas:
        busy = float(np.mean([stage["busy"] for stage in one["stages"]])) if one["stages"] else None
        numbers = [one["num_gpus"], one["num_requests"], one["num_iterations"], one["num_preemptions"]]
        cells = [Cell(str(one["replica"]), one["replica"]), Cell(one["device"], one["device"])]
        cells += [Cell(f"{number:,}", number) for number in numbers]
        cells += [Cell(figure(one["output_tokens_per_s"]), one["output_tokens_per_s"])]
        rows.append([*cells, *(Cell(share(value), value) for value in (one["kv_use"]["mean"], busy))])
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
            *(Cell(figure(each[key]), each[key]) for key in ("bound_s", "value_s")),
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
            *(Cell(share(stage[name]), stage[name]) for name in STAGE_SHARES),
        ]
        for one in replicas
        if one["pp"] > 1
        for number, stage in enumerate(one["stages"] or [])
    ]
    head = ["replica", "stage", *(name.replace("_", " ") for name in STAGE_SHARES)]
    return Table(title, head, rows) if rows else None


def settings(runs: Runs, only_differences: bool) -> Table:
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
