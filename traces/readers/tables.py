"""Reads CSV, JSON lines and Parquet, part by part."""

import codecs
import csv
import io
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from traces.readers.rows import Rows

# How much is read at a time.
PART_BYTES = 1 << 23
_PART_ROWS = 1 << 18
# The first line of a file that has no end of line is not read without end.
_LONGEST_HEADER = 1 << 20
_LONGEST_LINE = 1 << 22
_MOST_COLUMNS = 1000
# The first objects of a file of JSON lines that show which keys there are.
_HEADER_ROWS = 1000
Needed = Callable[[list[str]], list[str]]


def csv_rows(file: BinaryIO, needed: Needed) -> Iterator[Rows]:
    """Yield the rows under the header of a CSV file; blank lines are none.

    Args:
        file: At its beginning.
        needed: Given the names of the columns, returns those to read.

    Raises:
        ValueError: There is no header.
    """
    first_line, header = 1, file.readline(_LONGEST_HEADER)
    while header and not header.strip():
        first_line, header = first_line + 1, file.readline(_LONGEST_HEADER)
    try:
        names = [name.strip() for name in next(csv.reader([header.decode("utf-8-sig")]), [])]
    except csv.Error as error:
        raise ValueError(f"has no header in line {first_line}: {error}") from None
    if not any(names):
        raise ValueError("has no header, as of an empty file")
    _require_columns(names)
    columns = needed(names)
    wrong: deque[Any] = deque()

    def skip(row: Any) -> str:
        wrong.append(row)
        return "skip"

    options = {
        "read_options": pa.csv.ReadOptions(use_threads=False, block_size=PART_BYTES, column_names=names),
        "parse_options": pa.csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=skip),
        "convert_options": pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    }
    lines = _WholeLines(file, first_line + 1)
    try:
        reader = pa.csv.open_csv(pa.PythonFile(lines, mode="r"), **options)
    except pa.ArrowInvalid as error:
        if lines.error is not None:
            raise lines.error from None
        if "Empty CSV" in str(error):
            return
        raise
    try:
        yield from _numbered(reader, columns, wrong, first_line + 1)
    finally:
        reader.close()
    if lines.error is not None:
        raise lines.error


class _WholeLines(io.RawIOBase):
    """Hands a file on as far as it is text in lines that are not too long: Arrow fails on others in ways of its own.

    Attributes:
        error: What is wrong behind what was read; None: nothing.
    """

    def __init__(self, file: BinaryIO, first_line: int) -> None:
        self.error: ValueError | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = b""
        self._file = file
        self._line = first_line
        self._begun = 0  # bytes of the line that goes on

    def read(self, size: int = -1, /) -> bytes:
        """Read so many bytes at most; none from a part that has something wrong."""
        read = b"" if self.error is not None else self._file.read(size)
        try:
            self._decoder.decode(read, final=not read)
        except UnicodeDecodeError as error:
            self.error = error
            return b""
        # A character that goes on in the next part is handed on with it.
        part = self._rest + read
        self._rest = self._decoder.getstate()[0]
        part = part[: len(part) - len(self._rest)]
        end = part.rfind(b"\n")
        if end < 0:
            self._begun += len(part)
        else:
            longest_gap = max(map(len, part.split(b"\n")))
            self._line += part.count(b"\n")
            self._begun = max(len(part) - end - 1, longest_gap if longest_gap > _LONGEST_LINE else 0)
        if self._begun > _LONGEST_LINE:
            self.error = ValueError(f"line {self._line} is longer than {_LONGEST_LINE >> 20} MiB")
            return b""
        return part

    def readable(self) -> bool:
        """Whether it can be read."""
        return True


def _require_columns(names: list[str]) -> None:
    if len(names) > _MOST_COLUMNS:
        raise ValueError(f"has {len(names):,} columns, more than {_MOST_COLUMNS:,}")
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ValueError(f"has several columns {twice[0]}")


def _numbered(reader: Any, columns: list[str], wrong: deque[Any], first_line: int) -> Iterator[Rows]:
    """Yield rows with their lines: those that were refused, by their number under the header, take one each too."""
    next_line = first_line
    for batch in reader:
        if batch.num_rows == 0:
            continue
        skipped = np.array([row.number + first_line - 1 for row in wrong], dtype=np.int64)
        lines = np.arange(next_line, next_line + batch.num_rows + len(skipped))
        lines = lines[~np.isin(lines, skipped)][: batch.num_rows]
        next_line = int(lines[-1]) + 1
        broken = _broken(wrong, first_line, next_line)
        _require_whole_lines(batch, lines)
        filled = np.zeros(batch.num_rows, dtype=bool)
        for column in batch.columns:
            filled |= pa.compute.not_equal(column, "").to_numpy(zero_copy_only=False)
            if filled.all():
                break
        rows = batch if filled.all() else batch.filter(pa.array(filled))
        yield Rows({name: rows.column(name) for name in columns}, lines[filled], broken)
    nothing = {name: pa.array([], pa.string()) for name in columns}
    yield Rows(nothing, np.zeros(0, dtype=np.int64), _broken(wrong, first_line))


def _broken(wrong: deque[Any], first_line: int, before: int | None = None) -> list[tuple[int, str]]:
    """Take the rows of another number of fields that are in front of a line; None: all."""
    found = []
    while wrong and (before is None or wrong[0].number + first_line - 1 < before):
        row = wrong.popleft()
        fields = f"{row.actual_columns} field{'s' if row.actual_columns > 1 else ''}"
        found.append((row.number + first_line - 1, f"{fields}, and the header has {row.expected_columns}"))
    return found


def _require_whole_lines(batch: Any, lines: NDArray[np.int64]) -> None:
    """Check that no quoted field goes over several lines: one that is not closed would hide all rows behind it.

    Raises:
        ValueError: There is one.
    """
    for name in batch.schema.names:
        over = pa.compute.match_substring(batch.column(name), "\n")
        if pa.compute.any(over).as_py():
            line = int(lines[int(np.argmax(over.to_numpy(zero_copy_only=False)))])
            raise ValueError(f"line {line}: {name} has a quote that is not closed in its line")


def json_rows(file: BinaryIO, needed: Needed) -> Iterator[Rows]:
    """Yield the objects of a file that has one in each line; blank lines are none.

    Args:
        file: At its beginning.
        needed: Given the keys of the first object, returns those to read.
    """
    columns: list[str] | None = None
    keys: list[str] = []
    line = 1
    while lines := file.readlines(PART_BYTES):
        if columns is None:
            keys = _keys(lines[:_HEADER_ROWS])
            columns = needed(keys)
        rows, more_keys = _parsed(lines, columns, line) or _parsed_one_by_one(lines, columns, line)
        late = [name for name in needed([*keys, *more_keys]) if name not in columns]
        if late:
            raise ValueError(f"{late[0]} first comes behind line {_HEADER_ROWS}; give it to the first line, as null")
        yield rows
        line += len(lines)


def _keys(lines: list[bytes]) -> list[str]:
    keys: dict[str, None] = {}
    for line in lines:
        try:
            one = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(one, dict):
            keys |= dict.fromkeys(one)
    return list(keys)


def _parsed(lines: list[bytes], columns: list[str], first_line: int) -> tuple[Rows, Iterable[str]] | None:
    """Parse many lines at once, and return their keys too; None if anything is unusual in them."""
    try:
        table = pa.json.read_json(
            io.BytesIO(b"".join(lines)), pa.json.ReadOptions(use_threads=False, block_size=2 * PART_BYTES)
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(lines):
        return None
    there = set(table.column_names)
    values = {name: table.column(name).combine_chunks() if name in there else pa.nulls(len(lines)) for name in columns}
    if not all(_is_plain(one.type) for one in values.values()):
        return None
    return Rows(values, np.arange(first_line, first_line + len(lines))), there


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values are all missing, numbers, text or lists of integers."""
    of_list = pa.types.is_list(kind) and pa.types.is_integer(kind.value_type)
    of_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(of_list or of_number or pa.types.is_null(kind) or pa.types.is_string(kind))


def _parsed_one_by_one(lines: list[bytes], columns: list[str], first_line: int) -> tuple[Rows, Iterable[str]]:
    found: list[dict[str, Any]] = []
    places, broken = [], []
    for place, line in zip(count(first_line), lines, strict=False):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
        except (ValueError, RecursionError) as error:
            broken.append((place, f"no JSON: {error}"))
            continue
        if not isinstance(one, dict):
            broken.append((place, f"no JSON object: {line.strip()[:40].decode(errors='replace')}"))
            continue
        found.append(one)
        places.append(place)
    values = {name: _array([one.get(name) for one in found]) for name in columns}
    keys = dict.fromkeys(key for one in found for key in one)
    return Rows(values, np.array(places, dtype=np.int64), broken), keys


def _array(values: list[Any]) -> pa.Array:
    """Return values as lists where one is a list, as numbers where all are, else as text.

    What should be a list of integers and is none becomes a list of a null.
    """
    if any(isinstance(value, list) for value in values):
        lists = [value if _is_integers(value) else None if value is None else [None] for value in values]
        return pa.array(lists, pa.list_(pa.int64()))
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and all(value is None or abs(value) < 1 << 63 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([value if value is None else float(value) for value in values], pa.float64())
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array(texts, pa.string())


def _is_integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and abs(one) < 1 << 63 for one in value)


def _plain(column: Any) -> Any:
    """Return a column without an encoding of its own."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def parquet_rows(file: BinaryIO, needed: Needed) -> Iterator[Rows]:
    """Yield the rows of a Parquet file, numbered from 1.

    Args:
        file: At its beginning.
        needed: Given the names of the columns, returns those to read.
    """
    table = pa.parquet.ParquetFile(pa.PythonFile(file, mode="r"))
    names = table.schema_arrow.names
    _require_columns(names)
    columns = needed(names)
    first = 1
    for batch in table.iter_batches(batch_size=_PART_ROWS, columns=columns):
        places: NDArray[np.int64] = np.arange(first, first + batch.num_rows)
        yield Rows({name: _plain(batch.column(name)) for name in columns}, places)
        first += batch.num_rows
