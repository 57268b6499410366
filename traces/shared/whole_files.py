"""Files that appear under their names only when all of them are written."""

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from traces.shared.interruption import remove_at_last

# Processes of other machines, which may write into the same folder, cannot be seen from here.
_HOST = socket.gethostname()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield another name, one of each process, to write to; the file then gets its own name, or is removed.

    Raises:
        OSError: It cannot be written; the error names `path`. A device or a folder is not replaced.
    """
    with replacing_together([path]) as (partial,):
        yield partial


@contextmanager
def replacing_together(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield other names to write to; at the end all of the files get their own names, or none does.

    The last file says that the others are there: its old version is removed before they are replaced, and the new
    one comes last.

    Raises:
        OSError: One cannot be written; the error names it. A device or a folder is not replaced.
    """
    for path in paths:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "exists and is not a file", str(path))
        _remove_left(path)
    own = f"{_HOST}.{os.getpid()}.partial"
    partials = [path.with_name(f".{path.name}.{own}") for path in paths]
    with ExitStack() as done:
        for partial in partials:
            done.callback(partial.unlink, missing_ok=True)
            done.callback(remove_at_last(partial))
        try:
            yield partials
            if len(paths) > 1:
                paths[-1].unlink(missing_ok=True)
            for partial, path in zip(partials, paths, strict=True):
                if partial.exists() or path == paths[-1]:
                    os.replace(partial, path)
        except OSError as error:
            names = {str(partial): str(path) for partial, path in zip(partials, paths, strict=True)}
            if error.filename is None:  # a full disk does not say for which file
                error.filename = str(paths[-1])
            error.filename = names.get(str(error.filename), error.filename)
            error.filename2 = None
            raise


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a text file that appears under its name only when all of it is written."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        yield file


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when all of it is written."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def _remove_left(path: Path) -> None:
    """Remove what processes that were killed have left of a file."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return  # whoever writes will say so
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(_HOST)}\.(\d+)\.partial")
    for name in names:
        found = pattern.fullmatch(name)
        if found and not Path(f"/proc/{found[1]}").exists() and Path("/proc/self").exists():
            path.with_name(name).unlink(missing_ok=True)
