"""Tables of single requests and faults."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from simulator.results import FINISHED, STUCK, UNFINISHED, Column, Result, Table, count, milliseconds, table_of

# Maximum rows of a table.
MOST_ROWS = 30
_COLUMNS = (
    Column("request_id", "request", str),
    Column("arrival_s", "arrival, s", "{:,.2f}".format),
    Column("prompt_tokens", "prompt tokens", count),
    Column("output_tokens", "output tokens", count),
    Column("num_preemptions", "preemptions", count),
    Column("replica", "replica", count),
    Column("first_scheduled_s", "scheduling delay, ms", milliseconds),
    Column("first_token_s", "TTFT, ms", milliseconds),
    Column("completed_s", "E2E, ms", milliseconds),
    Column("client", "class", str),
)
_FAULTS = (
    Column("kind", "kind", str),
    Column("replica", "replica", "replica {}".format),
    Column("at_s", "from, s", "{:,.2f}".format),
    Column("end_s", "until, s", "{:,.2f}".format),
)
_EVENTS = ("first_scheduled_s", "first_token_s", "completed_s")


def request_tables(result: Result, of_run: str) -> Iterator[Table]:
    """Yield the faults, the slowest and the unfinished requests.

    Finished ones are sorted by end-to-end latency, slowest first. Unfinished ones arrived but did not finish.

    Args:
        result: The run.
        of_run: End of their titles, such as " of sarathi".
    """
    if result.faults.spans:
        yield _faults(result, of_run)
    table = result.requests
    finished, unfinished = (
        np.flatnonzero(np.isin(result.status, codes)) for codes in ([FINISHED], [UNFINISHED, STUCK])
    )
    e2e_s = (table["completed_s"] - table["arrival_s"])[finished]
    finished = finished[np.argsort(-e2e_s, kind="stable")]
    columns = [column for column in _COLUMNS if column.name != "client" or result.clients]
    for title, rows in (("Slowest requests", finished), ("Unfinished requests", unfinished)):
        if len(rows):
            names = [column.name for column in columns]
            values = [_request(result, row, names) for row in rows[:MOST_ROWS].tolist()]
            yield table_of(f"{title}{of_run}{_of_all(len(rows))}", columns, values)


def _of_all(num_rows: int) -> str:
    return f", {MOST_ROWS} of {num_rows:,}" if num_rows > MOST_ROWS else ""


def _request(result: Result, row: int, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of a request; events are timed from its arrival."""
    values = {name: result.column(name, slice(row, row + 1)).tolist()[0] for name in names}
    since = {name: values[name] - values["arrival_s"] for name in _EVENTS}
    return values | {name: None if math.isnan(time_s) else time_s for name, time_s in since.items()}


def _faults(result: Result, of_run: str) -> Table:
    spans = result.faults.spans
    rows = [{**vars(span), "end_s": min(span.end_s, result.end_s)} for span in spans[:MOST_ROWS]]
    return table_of(f"Faults{of_run}{_of_all(len(spans))}", _FAULTS, rows)
