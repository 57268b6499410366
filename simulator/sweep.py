"""Sweeps: a record of each job beside its results, and one table of all of them at the end.

A job that has a record of the same configuration is not run again, so that a sweep that was stopped goes on
where it was. Hydra's launchers run the jobs; records are how they report, whatever process they ran in.
"""

import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from simulator.errors import one_line
from simulator.output import whole_file

RECORD = "job.json"
TABLE = "sweep.csv"
Figures = Mapping[str, Any]

_LONGEST_NAME = 100
# Filled when a sweep ends, in the process that started it.
failures: list[str] = []


def job_folder(overrides: str) -> str:
    """Return the name of a job's folder: its overrides, as far as a file system likes them."""
    overrides = ",".join(as_written(override) for override in overrides.split(","))
    name = re.sub(r"[^\w.,=+-]", "_", overrides)
    if name == overrides and 0 < len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha1(overrides.encode()).hexdigest()[:8]}"


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


def run_job(folder: Path, number: int, about: dict[str, Any], task: Callable[[], Figures | None]) -> None:
    """Run a job of a sweep, unless its folder has its results, and leave a record of it.

    Args:
        folder: Where its files go.
        number: Its place in the sweep.
        about: What makes it the same job: overrides, configuration, version.
        task: Returns the figures of its row.
    """
    name = f"job {number}: {', '.join(about['overrides'])}"
    record = _read(folder / RECORD)
    if record is not None and record["error"] is None and {key: record[key] for key in about} == about:
        print(f"{name}: there already")
        _write(folder, {**record, "job": number})
        return
    figures: Figures = {}
    error = None
    try:
        print(name)
        figures = task() or {}
    except Exception as mistake:
        error = one_line(mistake) or type(mistake).__name__
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, {"job": number, **about, "figures": dict(figures), "error": error})


class SweepReport(Callback):
    """Hydra callback: says how many jobs there are, and writes the table when all are done."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Count the jobs, and leave out of the table what earlier sweeps left in the folder."""
        folder = Path(config.hydra.sweep.dir)
        for path, record in _records(folder):
            _write(path.parent, {**record, "job": None})
        parser = OverridesParser.create()
        count = 1
        for override in parser.parse_overrides(list(config.hydra.overrides.task)):
            if override.is_sweep_override():
                count *= sum(1 for _ in override.sweep_string_iterator())
        print(f"{count} jobs, results in {folder}")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write the table of the jobs, and note which failed."""
        folder = Path(config.hydra.sweep.dir)
        done = [(path, record) for path, record in _records(folder) if record["job"] is not None]
        if not done:
            return
        done.sort(key=lambda one: one[1]["job"])
        rows = [_row(path.parent, record) for path, record in done]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        columns.sort(key=lambda name: name == "error")
        with whole_file(folder / TABLE) as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        failed = [record for _, record in done if record["error"] is not None]
        failures.extend(f"{', '.join(record['overrides'])}: {record['error']}" for record in failed)
        print(f"{len(done)} jobs, {len(failed)} failed; written to {folder / TABLE}")


def _row(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table: overrides, figures, error; nothing is written for null."""
    overrides = dict(override.split("=", 1) for override in record["overrides"])
    return {"job": record["job"], "folder": folder.name, **overrides, **record["figures"], "error": record["error"]}


def as_written(override: str) -> str:
    """Return an override as our command line takes it: without Hydra's plus signs and slashes."""
    key, equals, value = override.lstrip("+").partition("=")
    return key.replace("/", ".") + equals + value


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob(f"*/{RECORD}")):
        record = _read(path)
        if record is not None:
            yield path, record


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record; None where there is none that can be read, so that its job is run again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    keys = ("job", "overrides", "config", "version", "figures", "error")
    return record if isinstance(record, dict) and all(key in record for key in keys) else None


def _write(folder: Path, record: dict[str, Any]) -> None:
    with whole_file(folder / RECORD) as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    sys.stdout.flush()
