"""Atomic writes: files get their names only when they are complete."""

import csv
import errno
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from traces.shared.interruption import remove_on_forced_exit

# Part of temporary names: other machines may write into the same folder, and their processes are not visible here.
_HOST = socket.gethostname()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to.

    It is renamed to `path` at the end; on an error, it is removed.

    Raises:
        OSError: The file cannot be written; the error names `path`. A device or a folder is not replaced.
    """
    with replacing_together([path]) as (partial,):
        yield partial


@contextmanager
def replacing_together(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield temporary paths to write to.

    All are renamed to `paths` at the end; on an error, they are removed. The last file marks the others as complete:
    its old version is removed before they are replaced, and its new version is renamed last.

    Raises:
        OSError: A file cannot be written; the error names it. A device or a folder is not replaced.
    """
    for path in paths:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "exists and is not a file", str(path))
        _remove_leftovers(path)
    suffix = f"{_HOST}.{os.getpid()}.partial"
    partials = [path.with_name(f".{path.name}.{suffix}") for path in paths]
    with ExitStack() as cleanup:
        for partial in partials:
            cleanup.callback(partial.unlink, missing_ok=True)
            cleanup.callback(remove_on_forced_exit(partial))
        try:
            yield partials
            if len(paths) > 1:
                paths[-1].unlink(missing_ok=True)
            for partial, path in zip(partials, paths, strict=True):
                if partial.exists() or path == paths[-1]:
                    os.replace(partial, path)
        except OSError as error:
            names = {str(partial): str(path) for partial, path in zip(partials, paths, strict=True)}
            if error.filename is None:  # the error of a full disk names no file
                error.filename = str(paths[-1])
            error.filename = names.get(str(error.filename), error.filename)
            error.filename2 = None
            raise


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Open a text file for an atomic write."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        yield file


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; it must have no NaN."""
    with atomic_file(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file atomically; None becomes an empty cell."""
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed processes have left for a path."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return  # the write itself raises the error
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(_HOST)}\.(\d+)\.partial")
    for name in names:
        match = pattern.fullmatch(name)
        if match and not _is_running(int(match[1])):
            path.with_name(name).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    import psutil  # rarely needed

    return bool(psutil.pid_exists(process))
