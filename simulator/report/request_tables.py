"""Tables of single requests and faults."""

from collections.abc import Iterator

import numpy as np

from simulator.report.tables import Cell, Table, count, number, word
from simulator.results import FINISHED, STUCK, UNFINISHED, Result, milliseconds

# Maximum rows of a table.
MOST_ROWS = 30
_HEAD = (
    *("request", "arrival, s", "prompt tokens", "output tokens", "preemptions", "replica"),
    *("scheduling delay, ms", "TTFT, ms", "E2E, ms"),
)


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
    head = [*_HEAD, *(["class"] if result.clients else [])]
    for title, rows in (("Slowest requests", finished), ("Unfinished requests", unfinished)):
        if len(rows):
            cells = [_request(result, row) for row in rows[:MOST_ROWS].tolist()]
            yield Table(f"{title}{of_run}{_of_all(len(rows))}", head, cells)


def _of_all(num_rows: int) -> str:
    return f", {MOST_ROWS} of {num_rows:,}" if num_rows > MOST_ROWS else ""


def _request(result: Result, row: int) -> list[Cell]:
    table = result.requests
    arrival_s = float(table["arrival_s"][row])
    times = [float(table[name][row]) - arrival_s for name in ("first_scheduled_s", "first_token_s", "completed_s")]
    counts = ("prompt_tokens", "output_tokens", "num_preemptions", "replica")
    cells = [Cell(str(table["request_id"][row]), row), Cell(f"{arrival_s:,.2f}", arrival_s)]
    cells += [number(int(table[name][row]), count) for name in counts]
    cells += [number(None if np.isnan(time_s) else time_s, milliseconds) for time_s in times]
    return [
        *cells,
        *(word(str(name)) for name in (result.column("client", slice(row, row + 1)) if result.clients else [])),
    ]


def _faults(result: Result, of_run: str) -> Table:
    spans = result.faults.spans
    rows = [
        [
            word(span.kind),
            Cell(f"replica {span.replica}", span.replica),
            *(Cell(f"{time_s:,.2f}", time_s) for time_s in (span.at_s, min(span.end_s, result.end_s))),
        ]
        for span in spans[:MOST_ROWS]
    ]
    return Table(f"Faults{of_run}{_of_all(len(spans))}", ["kind", "replica", "from, s", "until, s"], rows)
