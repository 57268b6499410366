"""Writing the files of a run."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.log import NO_REPLICA
from simulator.output.saved_run import LOG, SUMMARY, write_log
from simulator.results import BATCH_COLUMNS, Result
from traces.shared.atomic_files import replacing_together
from traces.shared.value_checks import flag

REQUESTS, BATCHES, TIMELINE, REPORT = "requests.csv", "batches.csv", "timeline.perfetto-trace", "report.html"
TABLES = ("requests.parquet", "iterations.parquet", "stays.parquet")
_ROWS_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class Files:
    """Optional files of a run, besides summary.json and requests.csv.

    Attributes:
        log: log.npz, which plots and reports read.
        parquet: requests.parquet, iterations.parquet and stays.parquet.
        batches: batches.csv, one row per batch member; needs logged members.
        timeline: timeline.perfetto-trace; needs logged members.
    """

    log: bool = True
    parquet: bool = False
    batches: bool = False
    timeline: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value in vars(self).items():
            flag(name, value)

    @property
    def need_members(self) -> bool:
        """Whether batch members have to be logged."""
        return self.batches or self.timeline

    @property
    def need_stages(self) -> bool:
        """Whether start and end of each stage's computation have to be logged."""
        return self.log or self.timeline


def write_result(result: Result, directory: Path, about: dict[str, Any], files: Files) -> None:
    """Write summary.json, requests.csv and the optional files of a run.

    Args:
        result: The result.
        directory: Existing folder of the run.
        about: More keys of the summary, such as the configuration and the version.
        files: Which optional files to write.

    Raises:
        OSError: A file cannot be written. Then no file changes, and those of an earlier run stay.
    """
    optional = {LOG: files.log, BATCHES: files.batches, TIMELINE: files.timeline, REPORT: False}
    optional |= dict.fromkeys(TABLES, files.parquet)
    names = [REQUESTS, *(name for name, wanted in optional.items() if wanted), SUMMARY]
    stale = [directory / name for name, wanted in optional.items() if not wanted]
    with replacing_together([directory / name for name in names], stale) as partials:
        path = dict(zip(names, partials, strict=True))
        _write_rows(path[REQUESTS], result.request_columns, _request_rows(result))
        with open(path[SUMMARY], "w", encoding="utf-8") as file:
            json.dump(result.summary | about, file, indent=2, allow_nan=False)
            file.write("\n")
        if files.log:
            write_log(result, path[LOG])
        if files.parquet:
            from simulator.output.parquet_tables import write_tables  # pyarrow takes time to load

            write_tables(result, [path[name] for name in TABLES])
        if files.timeline:
            from simulator.output.perfetto_trace import write_timeline  # protobuf takes time to load

            write_timeline(result, path[TIMELINE])
        if files.batches:
            _write_rows(path[BATCHES], BATCH_COLUMNS, result.batches())


def _request_rows(result: Result) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of requests.csv.

    Arrays are converted in parts to save memory.
    """
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


def _write_rows(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
