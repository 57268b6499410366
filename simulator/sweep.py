"""Sweeps: a record of each job beside its results, and one table of all of them at the end.

A job that has a record of the same configuration is not run again, so that a sweep that was stopped goes on
where it was. Hydra's launchers run the jobs; records are how they report, whatever process they ran in.
"""

import csv
import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from simulator.errors import one_line
from traces.whole_files import whole_file

RECORD = "job.json"
TABLE = "sweep.csv"
LOCK = "sweep.lock"
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
    try:
        print(name)
        figures = task() or {}
    except Exception as mistake:
        error = one_line(mistake) or type(mistake).__name__
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
        _lock(folder)
        for path, record in _records(folder):
            _write(path.parent, {**record, "job": None})
        count = _num_jobs(list(config.hydra.overrides.task))
        print(f"{'jobs' if count is None else f'{count} jobs'}, results in {folder}")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write the table of the jobs, and note which failed."""
        folder = Path(config.hydra.sweep.dir)
        try:
            self._report(folder, _num_jobs(list(config.hydra.overrides.task)))
        except OSError as error:
            failures.append(one_line(error))
        finally:
            (folder / LOCK).unlink(missing_ok=True)

    def _report(self, folder: Path, count: int | None) -> None:
        done = [(path, record) for path, record in _records(folder) if record["job"] is not None]
        if count is not None and len(done) < count:
            failures.append(f"{count - len(done)} of {count} jobs left no record in {folder}")
        if not done:
            return
        done.sort(key=lambda one: one[1]["job"])
        rows = [_row(path.parent.relative_to(folder).as_posix(), record) for path, record in done]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        columns.sort(key=lambda name: name == "error")
        with whole_file(folder / TABLE) as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
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
    count = 1
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            try:
                values = set(override.sweep_string_iterator())
            except HydraException:
                return None
            count *= len(values)
    return count


def _lock(folder: Path) -> None:
    """Take a folder for this sweep; what a sweep on this machine left that was killed does not count.

    Raises:
        SystemExit: Another sweep works in it. Hydra would make a warning of any other exception.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    mine = f"{os.getpid()} {socket.gethostname()}"
    try:
        owner, _, host = path.read_text(encoding="utf-8").partition(" ")
        alive = host != socket.gethostname() or Path(f"/proc/{owner}").exists()
    except OSError:
        alive = False
    if alive:
        print(
            f"error: {folder} is taken by another sweep (process {owner} on {host}); if that is gone, remove {path}",
            file=sys.stderr,
        )
        raise SystemExit(2)
    path.write_text(mine, encoding="utf-8")


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.rglob(RECORD)):
        record = _read(path)
        if record is not None:
            yield path, record


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record; None where there is none that can be read, so that its job is run again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    keys = ("job", "overrides", "config", "inputs", "version", "code", "files", "figures", "error")
    return record if isinstance(record, dict) and all(key in record for key in keys) else None


def _write(folder: Path, record: dict[str, Any]) -> None:
    with whole_file(folder / RECORD) as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    sys.stdout.flush()
