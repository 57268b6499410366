"""Writes a result to files."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from simulator.checks import require_flags
from simulator.gateway import NO_REPLICA
from simulator.result import BATCH_COLUMNS, Result
from simulator.saved_run import LOG, REQUESTS, SUMMARY, write_log
from simulator.timeline import write_timeline
from traces.whole_files import whole_file

BATCHES, TIMELINE, REPORT = "batches.csv", "timeline.json", "report.html"
_ROWS_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class Files:
    """What a run writes besides summary.json and requests.csv.

    Attributes:
        log: log.npz, what plots and reports are made of.
        batches: batches.csv, one row per batch member; they have to be logged.
        timeline: timeline.json, a Chrome trace; the members have to be logged.
    """

    log: bool = True
    batches: bool = False
    timeline: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        require_flags(self, ("log", "batches", "timeline"))

    @property
    def need_members(self) -> bool:
        """Whether the members of the batches have to be logged."""
        return self.batches or self.timeline

    @property
    def need_stages(self) -> bool:
        """Whether it has to be logged when each pipeline stage computes."""
        return self.log or self.timeline


def write_result(result: Result, directory: Path, about: dict[str, Any], files: Files) -> list[str]:
    """Write summary.json and requests.csv, and what else is asked for.

    Args:
        result: What happened.
        directory: Existing folder of the run.
        about: Written into the summary: the configuration and the version.
        files: What else to write.

    Returns:
        What to know of the files, in plain words.

    Raises:
        OSError: A file cannot be written. None is left half-written.
    """
    for name, wanted in ((LOG, files.log), (BATCHES, files.batches), (TIMELINE, files.timeline), (REPORT, False)):
        if not wanted:
            (directory / name).unlink(missing_ok=True)  # what an earlier run left there is not of this one
    with whole_file(directory / REQUESTS) as file:
        _write_rows(file, result.request_columns, _request_rows(result))
    if files.log:
        write_log(result, directory)
    notes = []
    if files.timeline:
        notes = [f"{TIMELINE}: {note}" for note in write_timeline(result, directory / TIMELINE)]
    if files.batches:
        with whole_file(directory / BATCHES) as file:
            _write_rows(file, BATCH_COLUMNS, result.batches())
    with whole_file(directory / SUMMARY) as file:
        json.dump(result.summary | about, file, indent=2, allow_nan=False)
        file.write("\n")
    return notes


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
