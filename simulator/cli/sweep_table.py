"""Tables of a sweep: sweep.csv, and its main figures on the terminal."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from simulator.cli.terminal import terminal_table
from simulator.config import overrides_of
from simulator.results import jobs_table
from traces.shared.atomic_files import write_csv
from traces.shared.terminal import note, show, warn

MAX_SHOWN_JOBS = 100
MAX_NAMED_JOBS = 8  # in a warning
WARNINGS_JOINT = " | "  # between the warnings of a job in sweep.csv
_PARTS = ("model.name", "device.name", "parallel.tp", "parallel.pp", "cluster.replicas", "seed")
Row = dict[str, Any]


def table_rows(records: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Row]:
    """Return a row for each job.

    It has the job's number, folder, overrides, figures and error.

    Args:
        records: Folder and record of each job.
    """
    return [
        {
            "job": record["job"],
            "folder": folder,
            **dict(override.split("=", 1) for override in record["overrides"]),
            **record["figures"],
            "error": record["error"],
        }
        for folder, record in records
    ]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV; null becomes an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns.sort(key=lambda name: name == "error")
    write_csv(path, columns, ([row.get(name) for name in columns] for row in rows))


def print_table(rows: Sequence[Row], records: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what was varied and the main figures of every job.

    What all jobs have in common comes first.

    Args:
        rows: As in sweep.csv.
        records: Records of the jobs.
        console: Where to print.
    """
    keys = dict.fromkeys(override.partition("=")[0] for record in records for override in record["overrides"])
    varied = [key for key in keys if len({str(row.get(key)) for row in rows}) > 1]
    given = [f"{key}={rows[0][key]}" for key in keys if key not in varied]
    show(console, "", f"all jobs: {', '.join([*_in_common(records, keys), *given])}")
    show(console, "", terminal_table(jobs_table(rows[:MAX_SHOWN_JOBS], ["job", *varied])), "")
    if len(rows) > MAX_SHOWN_JOBS:
        note(console, f"the first {MAX_SHOWN_JOBS} of {len(rows):,} jobs are shown")
    for text, jobs in _warnings(rows).items():
        numbers = ", ".join(map(str, jobs[:MAX_NAMED_JOBS])) + (", ..." if len(jobs) > MAX_NAMED_JOBS else "")
        warn(console, f"{text} (job{'s' if len(jobs) > 1 else ''} {numbers})")


def _warnings(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return the jobs that have each warning."""
    jobs: dict[str, list[int]] = {}
    for row in rows:
        for text in filter(None, (row.get("warnings") or "").split(WARNINGS_JOINT)):
            jobs.setdefault(text, []).append(row["job"])
    return jobs


def _in_common(records: Sequence[Mapping[str, Any]], given: Collection[str]) -> Iterator[str]:
    """Yield parts of the configuration that all jobs share, without given ones."""
    for key in _PARTS:
        values = {str(OmegaConf.select(OmegaConf.create(record["config"]), key)) for record in records}
        group = key.removesuffix(".name")
        if len(values) == 1 and not {key, group} & {*given}:
            yield f"{group}={values.pop()}"


def as_written(override: str) -> str:
    """Return an override in our syntax, without Hydra's plus signs and slashes."""
    key, equals, value = override.lstrip("+").partition("=")
    return key.replace("/", ".") + equals + value


def written_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a job in our syntax."""
    written = []
    for override in map(as_written, overrides):
        key, _, value = override.partition("=")
        written += overrides_of(value.strip("'")) if key == "policy" else [override]
    return written
