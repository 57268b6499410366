"""Sweeps: a record of each job, and a table at the end.

A job's record is in its folder; the table has all jobs.

A job whose folder has a record of the same configuration is skipped, so a stopped sweep can be resumed. Hydra's
launchers run the jobs, possibly in other processes; the records report their results.
"""

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from math import prod
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from simulator.cli.folder_lock import FolderTakenError, take
from simulator.cli.sweep_table import print_table, table_rows, write_table, written_overrides
from simulator.config import one_line
from traces.shared import command_line, interruption
from traces.shared.atomic_files import atomic_file

RECORD = "job.json"
TABLE = "sweep.csv"
Figures = Mapping[str, Any]

# Environment variable, inherited by the processes of jobs: jobs print their output.
VERBOSE_VARIABLE = "LLM_SIMULATOR_VERBOSE"
_LONGEST_NAME = 100
# Errors of the jobs; filled when a sweep ends, in the process that started it.
failures: list[str] = []
# State of the sweep that this process runs: folder, count (number of jobs) and release (unlocks the folder).
_running: dict[str, Any] = {}


def job_folder(overrides: str) -> str:
    """Return the folder name of a job from its overrides.

    Characters unsafe in file names are replaced, and long names are cut; both add a digest.
    """
    overrides = ",".join(written_overrides(overrides.split(",")))
    name = re.sub(r"[^\w.,=+-]", "_", overrides)
    if name == overrides and 0 < len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha1(overrides.encode(), usedforsecurity=False).hexdigest()
    return f"{name[:_LONGEST_NAME]}-{digest[:8]}"


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


def run_job(folder: Path, number: int, about: dict[str, Any], task: Callable[[], Figures | None]) -> None:
    """Run a job of a sweep and write its record.

    The job is skipped if its folder has its results.

    Args:
        folder: Output folder of the job.
        number: Index of the job in the sweep.
        about: Identity of the job: overrides, configuration, inputs, version, code.
        task: Returns the columns of its row in sweep.csv.
    """
    name = f"job {number}: {', '.join(about['overrides'])}"
    record = _read(folder / RECORD)
    if record is not None and _is_done(folder, record, about):
        print(f"{name}: already done")
        _write(folder, {**record, "job": number})
        return
    (folder / RECORD).unlink(missing_ok=True)
    figures: Figures = {}
    error = None
    if parent_process() is not None:
        interruption.end_with_parent()
    try:
        # What a job prints is dropped, unless --verbose was given.
        with nullcontext() if os.environ.get(VERBOSE_VARIABLE) else redirect_stdout(io.StringIO()):
            figures = task() or {}
    except Exception as exception:
        if interruption.was_interrupted():  # a consequence of the interrupt, not an error of the job
            raise KeyboardInterrupt from exception
        error = command_line.error_line(exception, one_line)[0]
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    _write(folder, {"job": number, **about, "files": files, "figures": dict(figures), "error": error})
    print(f"{name}: {'failed' if error else 'done'}", flush=True)


class SweepReport(Callback):
    """Hydra callback that prints the number of jobs and writes the table.

    Hydra turns exceptions of callbacks into warnings, so errors are added to `failures` instead.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Lock the folder, count the jobs and set aside earlier records.

        Records of earlier sweeps are left out of the table unless this sweep has their job.
        """
        folder = Path(config.hydra.sweep.dir)
        try:
            release = take(folder)
        except (FolderTakenError, OSError) as error:
            # Hydra turns any other exception into a warning.
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from error
        _running.update(folder=folder, release=release, count=_num_jobs(list(config.hydra.overrides.task)))
        (folder / TABLE).unlink(missing_ok=True)
        for path, record in _records(folder):
            _write(path.parent, {**record, "job": None})
        count = _running["count"]
        print(f"{'jobs' if count is None else f'{count} jobs'}, results in {folder}")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002  # passed by name
        """Write the table of the jobs, and add failed jobs to `failures`."""
        try:
            _end_sweep(report=True)
        except Exception as error:  # Hydra would turn it into a warning, and the sweep would seem to succeed
            failures.append(command_line.error_line(error, one_line)[0])


def after_interrupt() -> str:
    """Write the table of an interrupted sweep and return its state.

    The state is one line, empty if there is no sweep.
    """
    if not _running:
        return ""
    folder, count = _running["folder"], _running["count"]
    for path in folder.rglob(".*.partial"):
        path.unlink(missing_ok=True)  # of jobs in processes that were killed
    num_done = _end_sweep(report=False)
    total = "" if count is None else f" of {count}"
    table = f" in {folder / TABLE}" if num_done else ""
    return f"{num_done}{total} jobs are done{table}; rerun with hydra.sweep.dir={folder} to run the rest"


def _end_sweep(*, report: bool) -> int:
    """Write the table of the sweep and release its folder.

    Returns:
        Number of finished jobs.
    """
    folder, count = _running["folder"], _running["count"]
    try:
        done = [(path, record) for path, record in _records(folder) if record["job"] is not None]
        if report and count is not None and len(done) < count:
            failures.append(f"{count - len(done)} of {count} jobs left no record in {folder}")
        if done:
            _report(folder, sorted(done, key=lambda entry: entry[1]["job"]), report)
    finally:
        _running["release"]()
        _running.clear()
    return len(done)


def _report(folder: Path, done: Sequence[tuple[Path, dict[str, Any]]], report: bool) -> None:
    """Write sweep.csv, and print its main figures if a report is wanted."""
    rows = table_rows([(path.parent.relative_to(folder).as_posix(), record) for path, record in done])
    write_table(folder / TABLE, rows)
    if report:
        failed = [record for _, record in done if record["error"] is not None]
        failures.extend(_failure_lines(failed))
        print_table(rows, [record for _, record in done], Console())
        print(f"{len(done)} jobs, {len(failed)} failed; written to {folder / TABLE}")


def _failure_lines(failed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each different error."""
    jobs: dict[str, list[str]] = {}
    for record in failed:
        jobs.setdefault(record["error"], []).append(", ".join(record["overrides"]))
    for error, names in jobs.items():
        yield f"{names[0] if len(names) == 1 else f'{len(names)} jobs'}: {error}"


def _is_done(folder: Path, record: dict[str, Any], about: dict[str, Any]) -> bool:
    """Whether a record is of the same job, without error.

    The files that it names must still exist.
    """
    same = record["error"] is None and {key: record[key] for key in about} == about
    return same and all((folder / name).is_file() for name in record["files"])


def _num_jobs(overrides: list[str]) -> int | None:
    """Return the number of jobs of a sweep.

    None if it depends on existing files, as with glob().
    """
    counts: dict[str | None, int] = {}
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            try:
                # If a key is given twice, the last one counts.
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
    """Return the record in a file.

    None if it is missing or damaged, so that its job runs again.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    keys = ("job", "overrides", "config", "inputs", "version", "code", "files", "figures", "error")
    return record if isinstance(record, dict) and all(key in record for key in keys) else None


def _write(folder: Path, record: dict[str, Any]) -> None:
    with atomic_file(folder / RECORD) as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    sys.stdout.flush()
