"""Reads JSON that may be anything: too large, too deep, ambiguous, or no file at all."""

import errno
import gzip
import json
import os
import stat
import zlib
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 28  # of a file, unpacked
_GZIP = b"\x1f\x8b"


def read_json(path: Path, *, allow_nan: bool = False) -> Any:
    """Read a file of JSON, plain or gzip.

    Raises:
        OSError: It cannot be read, or is no file.
        ValueError: It is no JSON, or more than such files have; without the name of the file.
    """
    content = read_bytes(path)
    return parse_json(content, allow_nan=allow_nan)


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacked if it is gzip.

    Raises:
        OSError: It cannot be read, or is no file.
        ValueError: It has more than MOST_BYTES, or is broken gzip; without the name of the file.
    """
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        content = file.read(MOST_BYTES + 1)
        if content.startswith(_GZIP):
            file.seek(0)
            try:
                with gzip.open(file) as unpacked:
                    content = unpacked.read(MOST_BYTES + 1)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"it is broken gzip: {error}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    return content


def parse_json(content: bytes, *, allow_nan: bool = False) -> Any:
    """Parse JSON in UTF-8; a key may not be there twice, as it would not be clear which one counts.

    Args:
        content: The text.
        allow_nan: Whether NaN and Infinity are numbers, which the standard does not have.

    Raises:
        ValueError: It is something else.
    """
    constant = float if allow_nan else _refused
    try:
        text = content.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_object, parse_constant=constant, parse_int=_integer)
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return found


def _refused(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number")


def _integer(digits: str) -> int:
    if len(digits) > 100:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)
