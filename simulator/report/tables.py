"""Tables of a report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.results import FINISHED, LATENCIES, STAGE_SHARES, STATISTICS, STUCK, UNFINISHED, Result, figure, share

# Maximum rows of a table of requests.
MOST_REQUESTS = 200
_LONGEST_VALUE = 70
Runs = Mapping[str, tuple[Result, Mapping[str, Any]]]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Displayed text.
        key: Sort key, a number or text; None: sorted last.
    """

    text: str
    key: float | str | None


@dataclass(frozen=True)
class Table:
    """A table with sortable columns.

    Attributes:
        title: Title.
        head: Column names.
        rows: Cells by row.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def tables(runs: Runs) -> Iterator[Table]:
    """Yield the tables below the plots.

    These are the latencies if there is only one run, then the client classes, replicas and requests of each run.
    """
    if len(runs) == 1:
        yield _latencies(next(iter(runs.values()))[1])
    for name, (result, summary) in runs.items():
        of_run = f" of {name}" if len(runs) > 1 else ""
        if summary["clients"]:
            yield _clients(summary["clients"], f"Client classes{of_run}")
            objectives = _objectives(summary["clients"], f"SLO objectives of the client classes{of_run}")
            yield from [objectives] if objectives else []
        if len(summary["replicas"]) > 1:
            yield _replicas(summary["replicas"], f"Replicas{of_run}")
        stages = _stages(summary["replicas"], f"Pipeline stages{of_run}")
        yield from [stages] if stages else []
        yield from _requests(result, of_run)


def comparison_table(runs: Runs) -> Table:
    """Return throughput and latencies of the runs side by side.

    Each run has its difference to the first run.
    """
    summaries = [summary for _, summary in runs.values()]
    rows = [
        [Cell(title, title), *_with_changes([summary[name] for summary in summaries])]
        for name, title in (("requests_per_s", "requests/s"), ("output_tokens_per_s", "output tokens/s"))
    ]
    for metric, title in LATENCIES.items():
        for statistic in STATISTICS:
            values = [summary[metric][statistic] for summary in summaries]
            rows.append([Cell(f"{title}, {_statistic_label(statistic)}, s", title), *_with_changes(values)])
    return Table("Metrics side by side", ["metric", *runs], rows)


def _statistic_label(statistic: str) -> str:
    return statistic.upper() if statistic.startswith("p") else statistic


def _with_changes(values: Sequence[float | None]) -> list[Cell]:
    cells = []
    for index, value in enumerate(values):
        first = values[0]
        change = f" ({value / first - 1:+.0%})" if index and first and value is not None else ""
        cells.append(Cell("-" if value is None else f"{value:.4g}{change}", value))
    return cells


def _latencies(summary: Mapping[str, Any]) -> Table:
    rows = [
        [
            Cell(title, title),
            *(Cell(figure(summary[metric][statistic]), summary[metric][statistic]) for statistic in STATISTICS),
        ]
        for metric, title in LATENCIES.items()
    ]
    return Table("Latencies, s", ["latency", *map(_statistic_label, STATISTICS)], rows)


def _clients(clients: Sequence[Mapping[str, Any]], title: str) -> Table:
    rows = []
    for client in clients:
        slo = client["slo"]
        metrics = [client["requests_per_s"], client["ttft_s"]["p90"], client["tbt_s"]["p99"], client["e2e_s"]["p90"]]
        met = {True: "met", False: "missed", None: "-"}[slo["met"]] if slo else "none"
        goodput = slo["goodput"] if slo else None
        cells = [Cell(client["client"], client["client"]), Cell(f"{client['num_requests']:,}", client["num_requests"])]
        cells += [Cell(figure(value), value) for value in metrics]
        rows.append([*cells, Cell(met, met), Cell(share(goodput), goodput)])
    head = ["class", "requests", "requests/s", "TTFT P90, s", "TBT P99, s", "end to end P90, s", "SLO", "goodput"]
    return Table(title, head, rows)


def _replicas(replicas: Sequence[Mapping[str, Any]], title: str) -> Table:
    rows = []
    for replica in replicas:
        busy = float(np.mean([stage["busy"] for stage in replica["stages"]])) if replica["stages"] else None
        counts = [replica[name] for name in ("num_gpus", "num_requests", "num_iterations", "num_preemptions")]
        cells = [Cell(str(replica["replica"]), replica["replica"]), Cell(replica["device"], replica["device"])]
        cells += [Cell(f"{number:,}", number) for number in counts]
        cells += [Cell(figure(replica["output_tokens_per_s"]), replica["output_tokens_per_s"])]
        rows.append([*cells, *(Cell(share(value), value) for value in (replica["kv_use"]["mean"], busy))])
    head = ["replica", "device", "GPUs", "requests", "iterations", "preemptions", "tokens/s", "KV used", "busy"]
    return Table(title, head, rows)


def _requests(result: Result, of_run: str) -> Iterator[Table]:
    """Yield the finished requests and the unfinished requests.

    Finished ones are sorted by end-to-end latency, slowest first. Unfinished ones arrived but did not finish.
    """
    table = result.requests
    finished, unfinished = (
        np.flatnonzero(np.isin(result.status, codes)) for codes in ([FINISHED], [UNFINISHED, STUCK])
    )
    e2e_s = (table["completed_s"] - table["arrival_s"])[finished]
    finished = finished[np.argsort(-e2e_s, kind="stable")]
    for title, rows in (("Slowest requests", finished), ("Unfinished requests", unfinished)):
        if len(rows):
            count = f", {MOST_REQUESTS} of {len(rows):,}" if len(rows) > MOST_REQUESTS else ""
            cells = [_request(result, row) for row in rows[:MOST_REQUESTS].tolist()]
            yield Table(f"{title}{of_run}{count}", [*_REQUEST_HEAD, *(["class"] if result.clients else [])], cells)


_REQUEST_HEAD = (
    *("request", "arrival, s", "prompt tokens", "output tokens", "scheduling delay, s", "TTFT, s", "end to end, s"),
    *("preemptions", "replica"),
)


def _request(result: Result, row: int) -> list[Cell]:
    table = result.requests
    arrival_s = float(table["arrival_s"][row])
    times = [float(table[name][row]) - arrival_s for name in ("first_scheduled_s", "first_token_s", "completed_s")]
    counts = {name: int(table[name][row]) for name in ("prompt_tokens", "output_tokens", "num_preemptions", "replica")}
    numbers = [Cell(f"{number:,}", number) for number in counts.values()]
    cells = [Cell(str(table["request_id"][row]), row), Cell(f"{arrival_s:,.2f}", arrival_s), *numbers[:2]]
    cells += [Cell("-", None) if np.isnan(time_s) else Cell(f"{time_s:.4g}", time_s) for time_s in times]
    names = [str(name) for name in result.column("client", slice(row, row + 1))] if result.clients else []
    return [*cells, *numbers[2:], *(Cell(name, name) for name in names)]


def _objectives(clients: Sequence[Mapping[str, Any]], title: str) -> Table | None:
    """Return the objectives of client classes, with their bounds and values."""
    rows = [
        [
            Cell(client["client"], client["client"]),
            Cell(objective["name"], objective["name"]),
            *(Cell(figure(objective[key]), objective[key]) for key in ("bound_s", "value_s")),
        ]
        for client in clients
        for objective in (client["slo"]["objectives"] if client["slo"] else [])
    ]
    return Table(title, ["class", "objective", "bound, s", "value, s"], rows) if rows else None


def _stages(replicas: Sequence[Mapping[str, Any]], title: str) -> Table | None:
    """Return the time shares of pipeline stages."""
    rows = [
        [
            Cell(str(replica["replica"]), replica["replica"]),
            Cell(str(number), number),
            *(Cell(share(stage[name]), stage[name]) for name in STAGE_SHARES),
        ]
        for replica in replicas
        if replica["pp"] > 1
        for number, stage in enumerate(replica["stages"] or [])
    ]
    head = ["replica", "stage", *(name.replace("_", " ") for name in STAGE_SHARES)]
    return Table(title, head, rows) if rows else None


def configuration_table(runs: Runs, only_differences: bool) -> Table:
    """Return the configurations of the runs, one row per key."""
    configs = [dict(_flatten(summary["config"])) for _, summary in runs.values()]
    if only_differences:
        # Output options do not affect the simulation.
        configs = [{key: value for key, value in config.items() if not key.startswith("output.")} for config in configs]
    rows = []
    for key in dict.fromkeys(key for config in configs for key in config):
        values = [config.get(key, "-") for config in configs]
        if not only_differences or len(set(values)) > 1:
            rows.append([Cell(key, key), *(Cell(_shorten(value), value) for value in values)])
    return Table("Configuration differences" if only_differences else "Configuration", ["key", *runs], rows)


def _shorten(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}\N{HORIZONTAL ELLIPSIS}"


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _flatten(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, "null" if node is None else str(node).lower() if isinstance(node, bool) else str(node)
