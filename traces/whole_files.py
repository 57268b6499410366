"""Files that appear under their names only when all of them is written."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield another name, one of each process, to write to; the file then gets its own name, or is removed.

    Raises:
        OSError: It cannot be written; the error names `path`. A device or a folder is not replaced.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "exists and is not a file", str(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename == str(partial) or error.filename == partial:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a text file that appears under its name only when all of it is written."""
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        yield file


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when all of it is written."""
    with replacing(path) as partial:
        partial.write_bytes(content)
