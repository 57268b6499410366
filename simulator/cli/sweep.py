"""Sweeps: a record of each job beside its results, and one table of all of them at the end.

A job that has a record of the same configuration is not run again, so that a sweep that was stopped goes on
where it was. Hydra's launchers run the jobs; records are how they report, whatever process they ran in.
"""

import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from simulator.cli.folder_lock import FolderTakenError, take
from simulator.config import one_line
from traces.shared import command_line, interruption
from traces.shared.whole_files import whole_file

RECORD = "job.json"
TABLE = "sweep.csv"
Figures = Mapping[str, Any]

_LONGEST_NAME = 100
# Filled when a sweep ends, in the process that started it.
failures: list[str] = []
# Of the sweep that this process runs: its folder and number of jobs, and what gives the folder back.
_running: dict[str, Any] = {}


def job_folder(overrides: str) -> str:
    """Return the name of a job's folder: its overrides, as far as a file system likes them."""
    overrides = ",".join(as_written(override) for override in overrides.split(","))
    name = re.sub(r"[^\w.,=+-]", "_", overrides)
    if name == overrides and 0 < len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha1(overrides.encode(), usedforsecurity=False).hexdigest()
    return f"{name[:_LONGEST_NAME]}-{digest[:8]}"


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


def run_job(folder: Path, number: int, about: dict[str, Any], task: Callable[[], Figures | None]) -> None:
    """Run a job of a sweep, unless its folder has its results, and leave a record of it.

    Args:
        folder: Where its files go.
        number: Its place in the sweep.
        about: What makes it the same job: overrides, configuration, inputs, version, code.
        task: Returns the figures of its row.
    """
    name = f"job {number}: {', '.join(about['overrides'])}"
    record = _read(folder / RECORD)
    if record is not None and _is_done(folder, record, about):
        print(f"{name}: there already")
        _write(folder, {**record, "job": number})
        return
    (folder / RECORD).unlink(missing_ok=True)
    figures: Figures = {}
    error = None
    if parent_process() is not None:
        interruption.end_with_parent()
    try:
        print(name)
        figures = task() or {}
    except Exception as mistake:
        if interruption.was_interrupted():  # what comes of that is no mistake
            raise KeyboardInterrupt from mistake
        error = command_line.described(mistake, one_line)[0]
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    _write(folder, {"job": number, **about, "files": files, "figures": dict(figures), "error": error})


class SweepReport(Callback):
    """Hydra callback: says how many jobs there are, and writes the table when all are done.

    Hydra turns exceptions of callbacks into warnings, so what must not be missed is noted as a failure.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Take the folder, count the jobs, and leave out of the table what earlier sweeps left there."""
        folder = Path(config.hydra.sweep.dir)
        try:
            give_back = take(folder)
        except (FolderTakenError, OSError) as error:
            # Hydra would make a warning of any other exception.
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from error
        _running.update(folder=folder, give_back=give_back, count=_num_jobs(list(config.hydra.overrides.task)))
        (folder / TABLE).unlink(missing_ok=True)
        for path, record in _records(folder):
            _write(path.parent, {**record, "job": None})
        count = _running["count"]
        print(f"{'jobs' if count is None else f'{count} jobs'}, results in {folder}")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002  # Hydra names it
        """Write the table of the jobs, and note which failed."""
        try:
            _end(say=True)
        except OSError as error:
            failures.append(one_line(error))


def after_interrupt() -> str:
    """Write the table of the jobs that are done when a sweep is interrupted, and say what is left; empty: no sweep."""
    if not _running:
        return ""
    folder, count = _running["folder"], _running["count"]
    for path in folder.rglob(".*.partial"):
        path.unlink(missing_ok=True)  # of jobs in other processes, which were killed
    num_done = _end(say=False)
    of_all = "" if count is None else f" of {count}"
    table = f" in {folder / TABLE}" if num_done else ""
    return f"{num_done}{of_all} jobs are done{table}; the same command with hydra.sweep.dir={folder} does the rest"


def _end(*, say: bool) -> int:
    """Write the table of the sweep that this process runs, and give its folder back; return how many jobs are done."""
    folder, count = _running["folder"], _running["count"]
    try:
        done = [(path, record) for path, record in _records(folder) if record["job"] is not None]
        if say and count is not None and len(done) < count:
            failures.append(f"{count - len(done)} of {count} jobs left no record in {folder}")
        if done:
            _write_table(folder, sorted(done, key=lambda one: one[1]["job"]), say)
    finally:
        _running["give_back"]()
        _running.clear()
    return len(done)


def _write_table(folder: Path, done: Sequence[tuple[Path, dict[str, Any]]], say: bool) -> None:
    rows = [_row(path.parent.relative_to(folder).as_posix(), record) for path, record in done]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns.sort(key=lambda name: name == "error")
    with whole_file(folder / TABLE) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if say:
        failed = [record for _, record in done if record["error"] is not None]
        failures.extend(f"{', '.join(record['overrides'])}: {record['error']}" for record in failed)
        print(f"{len(done)} jobs, {len(failed)} failed; written to {folder / TABLE}")


def _row(folder: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table: overrides, figures, error; nothing is written for null."""
    overrides = dict(override.split("=", 1) for override in record["overrides"])
    return {"job": record["job"], "folder": folder, **overrides, **record["figures"], "error": record["error"]}


def as_written(override: str) -> str:
    """Return an override as our command line takes it: without Hydra's plus signs and slashes."""
    key, equals, value = override.lstrip("+").partition("=")
    return key.replace("/", ".") + equals + value


def _is_done(folder: Path, record: dict[str, Any], about: dict[str, Any]) -> bool:
    """Whether a record is of the same job, and all that the job wrote is still there."""
    same = record["error"] is None and {key: record[key] for key in about} == about
    return same and all((folder / name).is_file() for name in record["files"])


def _num_jobs(overrides: list[str]) -> int | None:
    """Return how many jobs a sweep has; None where that depends on what there is, as with glob()."""
    counts: dict[str | None, int] = {}
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            try:
                # Of a key that is given twice the last one counts.
                counts[override.key_or_group] = len(set(override.sweep_string_iterator()))
            except HydraException:
                return None
    return prod(counts.values())


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.rglob(RECORD)):
        record = _read(path)
        if record is not None:
            yield path, record


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record; None where there is none that can be read, so that its job is run again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    keys = ("job", "overrides", "config", "inputs", "version", "code", "files", "figures", "error")
    return record if isinstance(record, dict) and all(key in record for key in keys) else None


def _write(folder: Path, record: dict[str, Any]) -> None:
    with whole_file(folder / RECORD) as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    sys.stdout.flush()
