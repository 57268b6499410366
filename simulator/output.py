"""Writes a result to files."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from simulator.gateway import NO_REPLICA
from simulator.result import BATCH_COLUMNS, Result
from traces.whole_files import whole_file

_ROWS_AT_A_TIME = 1 << 16


def write_result(result: Result, directory: Path, about: dict[str, Any]) -> None:
    """Write summary.json and requests.csv, and batches.csv if the members were logged.

    Args:
        result: What happened.
        directory: Existing folder of the run.
        about: Written into the summary: the configuration and the version.

    Raises:
        OSError: A file cannot be written. None is left half-written.
    """
    with whole_file(directory / "requests.csv") as file:
        _write_rows(file, result.request_columns, _request_rows(result))
    if result.replicas[0].members is not None:
        with whole_file(directory / "batches.csv") as file:
            _write_rows(file, BATCH_COLUMNS, result.batches())
    with whole_file(directory / "summary.json") as file:
        json.dump(result.summary | about, file, indent=2, allow_nan=False)
        file.write("\n")


def _request_rows(result: Result) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of requests.csv, converting a part of the arrays at a time to keep memory flat."""
    for start in range(0, len(result.status), _ROWS_AT_A_TIME):
        columns = []
        for name in result.request_columns:
            values = result.column(name, slice(start, start + _ROWS_AT_A_TIME)).tolist()
            if name.endswith("_s"):
                values = ["" if math.isnan(value) else value for value in values]
            elif name == "replica":
                values = ["" if value == NO_REPLICA else value for value in values]
            elif name == "session":
                values = ["" if value < 0 else value for value in values]
            columns.append(values)
        yield from zip(*columns, strict=True)


def _write_rows(file: TextIO, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
