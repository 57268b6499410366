"""Reader of untrusted JSON files: limits their size and refuses ambiguous content."""

import csv
import errno
import gzip
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 28  # of a decompressed file
MOST_DIGITS = 100
_LONG_NUMBER = re.compile(rf"\d{{{MOST_DIGITS + 1}}}")
_GZIP = b"\x1f\x8b"


def read_json(path: Path, *, allow_nan: bool = False) -> Any:
    """Read a JSON file, plain or gzip.

    Args:
        path: The file.
        allow_nan: Whether NaN and Infinity are allowed, which are not standard JSON.

    Raises:
        OSError: The file cannot be read, or is not a regular file.
        ValueError: It is not valid JSON, or too large; the message does not name the file.
    """
    content = read_bytes(path)
    return parse_json(content, allow_nan=allow_nan)


@contextmanager
def reading(path: object, what: str, key: str = "") -> Iterator[None]:
    """Raise errors of reading a file as ValueError.

    The message is one line that names the file.

    Args:
        path: Path of the file.
        what: What the file should be, such as "a profile".
        key: Start of the message.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"{key}cannot read {path}: {error.strerror}") from error
    except (LookupError, ValueError, TypeError, AttributeError, EOFError, csv.Error) as error:
        reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else " ".join(str(error).split())[:400]
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason
        raise ValueError(f"{key}{path} is not {what}: {reason}") from error


def read_bytes(path: Path) -> bytes:
    """Read a file, decompressed if it is gzip.

    Raises:
        OSError: The file cannot be read, or is not a regular file.
        ValueError: It has more than MOST_BYTES, or is broken gzip; the message does not name the file.
    """
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        content = file.read(MOST_BYTES + 1)
        if content.startswith(_GZIP):
            file.seek(0)
            try:
                with gzip.open(file) as decompressed:
                    content = decompressed.read(MOST_BYTES + 1)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"it is broken gzip: {error}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    return content


def parse_json(content: bytes, *, allow_nan: bool = False) -> Any:
    """Parse JSON in UTF-8.

    A repeated key is an error, as its value would be ambiguous.

    Args:
        content: The text.
        allow_nan: Whether NaN and Infinity are allowed, which are not standard JSON.

    Raises:
        ValueError: The content is not valid JSON.
    """
    constant = float if allow_nan else _refuse_constant
    try:
        text = content.decode("utf-8-sig")
        # Parsing of integers in Python would double the time, so it is left to files that have a long one.
        parse_int = _parse_integer if _LONG_NUMBER.search(text) else None
        return json.loads(text, object_pairs_hook=_parse_object, parse_constant=constant, parse_int=parse_int)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it contains {name}, which is not valid JSON")


def _parse_integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it contains a number of {len(digits)} digits")
    return int(digits)
