"""Finds out what a file is by its content, whatever its name says."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from traces.readers.chats import Tokenise, chat_rows
from traces.readers.rows import Rows
from traces.readers.tables import Needed, csv_rows, json_rows, parquet_rows
from traces.readers.vllm_bench import is_result, result_rows

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_LONGEST_LINE = 1 << 26
Reader = Callable[[BinaryIO, Needed], Iterator[Rows]]


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a file, plain or gzip, at its beginning."""
    with open(path, "rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.open(file) as unpacked:
            yield cast(BinaryIO, unpacked)


def reader_of(path: str, tokenise: Tokenise) -> tuple[Reader, str]:
    """Return what reads a file, and what one of its rows is called.

    Args:
        path: The file.
        tokenise: Counts the tokens of texts, if the file holds texts.

    Raises:
        OSError: It cannot be read.
    """
    with opened(path) as file:
        line = file.readline(_LONGEST_LINE)
        if line.startswith(_PARQUET):
            return parquet_rows, "row"
        while line and not line.strip():
            line = file.readline(_LONGEST_LINE)
    start = line.removeprefix(b"\xef\xbb\xbf").strip()
    if start.startswith(b"["):
        return chat_rows(tokenise), "conversation"
    if not start.startswith(b"{"):
        return csv_rows, "line"
    try:
        first = json.loads(start)
    except (ValueError, RecursionError):
        # An object over several lines is a document; one that is closed in its line is a malformed row.
        return (json_rows, "line") if start.endswith(b"}") else (result_rows, "request")
    return (result_rows, "request") if is_result(first) else (json_rows, "line")
