"""Detection of a file's format by its content."""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, cast

from traces.readers import chats
from traces.readers.chats import CountTokens, chat_rows
from traces.readers.formats import has_lengths
from traces.readers.rows import Rows
from traces.readers.tables import ChooseColumns, csv_rows, flat, json_rows, parquet_rows
from traces.readers.vllm_bench import is_result, result_rows

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_LONGEST_LINE = 1 << 26
Reader = Callable[[BinaryIO, ChooseColumns], Iterator[Rows]]


@contextmanager
def open_decompressed(path: str) -> Iterator[BinaryIO]:
    """Open a plain or gzip file for reading."""
    with open(path, "rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not is_gzip:
            yield file
            return
        with gzip.open(file) as decompressed:
            yield cast(BinaryIO, decompressed)


def detect_reader(
    path: str, count_tokens: CountTokens, given: Mapping[str, str | None], *, without_outputs: bool
) -> tuple[Reader, str]:
    """Detect the format of a file.

    Args:
        path: The file.
        count_tokens: Counts the tokens of texts, for files of conversations.
        given: Names that the user gave to columns by role.
        without_outputs: Whether output lengths may be missing.

    Returns:
        The reader of the file, and the word for one of its rows: line, row, ...

    Raises:
        OSError: The file cannot be read.
    """
    with open_decompressed(path) as file:
        line = file.readline(_LONGEST_LINE)
        if line.startswith(_PARQUET):
            return parquet_rows, "row"
        while line and not line.strip():
            line = file.readline(_LONGEST_LINE)
    start = line.removeprefix(b"\xef\xbb\xbf").strip()
    if start.startswith(b"["):
        return chat_rows(chats.array, count_tokens, with_unanswered=without_outputs), "conversation"
    if not start.startswith(b"{"):
        return csv_rows, "line"
    try:
        first = json.loads(start)
    except (ValueError, RecursionError):
        # An object over several lines is a document; one that ends on its first line is a malformed row.
        return (json_rows, "line") if start.endswith(b"}") else (result_rows, "request")
    if is_result(first):
        return result_rows, "request"
    # A log may have both messages and their lengths.
    if chats.is_chat(first) and not has_lengths(flat(first), given):
        return chat_rows(chats.lines, count_tokens, with_unanswered=without_outputs), "line"
    return json_rows, "line"
