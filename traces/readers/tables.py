"""Readers of CSV, JSON lines and Parquet, part by part."""

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

PART_BYTES = 1 << 23
_PART_ROWS = 1 << 18
# Limits what is read of a file without line ends.
_LONGEST_HEADER = 1 << 20
_LONGEST_LINE = 1 << 22
_MOST_COLUMNS = 1000
# Lines of a JSON lines file whose keys make up its columns.
_HEADER_ROWS = 1000
# Larger integers are unsigned ones of 64 bits.
_SIGNED = 1 << 63
# Given the columns of a file, returns those to read.
ChooseColumns = Callable[[list[str]], list[str]]


def csv_rows(file: BinaryIO, choose_columns: ChooseColumns) -> Iterator[Rows]:
    """Yield the rows of a CSV file, without blank lines.

    Args:
        file: The file, at its start.
        choose_columns: Given the columns of the header, returns those to read.

    Raises:
        ValueError: The header is missing or invalid, or a line is too long.
        UnicodeDecodeError: The file is not UTF-8.
    """
    first_line, header = 1, file.readline(_LONGEST_HEADER)
    while header and not header.strip():
        first_line, header = first_line + 1, file.readline(_LONGEST_HEADER)
    try:
        names = [name.strip() for name in next(csv.reader([header.decode("utf-8-sig")]), [])]
    except csv.Error as error:
        raise ValueError(f"has no header in line {first_line}: {error}") from None
    if not any(names):
        raise ValueError("has no header; it may be empty")
    _require_columns(names)
    columns = choose_columns(names)
    refused: deque[Any] = deque()

    def refuse(row: Any) -> str:
        refused.append(row)
        return "skip"

    options = {
        "read_options": pa.csv.ReadOptions(use_threads=False, block_size=PART_BYTES, column_names=names),
        "parse_options": pa.csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=refuse),
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
        yield from _number_rows(reader, columns, refused, first_line + 1)
    finally:
        reader.close()
    if lines.error is not None:
        raise lines.error


class _WholeLines(io.RawIOBase):
    """A file up to its first invalid character or too long line.

    Arrow would fail on these with errors of its own.

    Attributes:
        error: Why the file ends early; None: it does not.
    """

    def __init__(self, file: BinaryIO, first_line: int) -> None:
        self.error: ValueError | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = b""
        self._file = file
        self._line = first_line
        self._line_bytes = 0  # of the unfinished line

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; return none once there is an error."""
        read = b"" if self.error is not None else self._file.read(size)
        try:
            self._decoder.decode(read, final=not read)
        except UnicodeDecodeError as error:
            self.error = error
            return b""
        # A character that continues in the next part is returned with that part.
        part = self._rest + read
        self._rest = self._decoder.getstate()[0]
        part = part[: len(part) - len(self._rest)]
        end = part.rfind(b"\n")
        if end < 0:
            self._line_bytes += len(part)
        else:
            longest_gap = max(map(len, part.split(b"\n")))
            self._line += part.count(b"\n")
            self._line_bytes = max(len(part) - end - 1, longest_gap if longest_gap > _LONGEST_LINE else 0)
        if self._line_bytes > _LONGEST_LINE:
            self.error = ValueError(f"line {self._line} is longer than {_LONGEST_LINE >> 20} MiB")
            return b""
        return part

    def readable(self) -> bool:
        """Return that the file can be read."""
        return True


def _require_columns(names: list[str]) -> None:
    if len(names) > _MOST_COLUMNS:
        raise ValueError(f"has {len(names):,} columns, more than {_MOST_COLUMNS:,}")
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise ValueError(f"has more than one column {repeated[0]}")


def _number_rows(reader: Any, columns: list[str], refused: deque[Any], first_line: int) -> Iterator[Rows]:
    """Yield rows with their line numbers.

    Args:
        reader: Arrow's reader, which skips rows that it refuses.
        columns: Columns to return.
        refused: Rows that Arrow refused so far, numbered from 1 below the header; they take up a line each.
        first_line: Line below the header.
    """
    next_line = first_line
    for batch in reader:
        if batch.num_rows == 0:
            continue
        refused_lines = np.array([row.number + first_line - 1 for row in refused], dtype=np.int64)
        lines = np.arange(next_line, next_line + batch.num_rows + len(refused_lines))
        lines = lines[~np.isin(lines, refused_lines)][: batch.num_rows]
        next_line = int(lines[-1]) + 1
        unparsable = _pop_refused(refused, first_line, next_line)
        _require_whole_lines(batch, lines)
        has_values = np.zeros(batch.num_rows, dtype=bool)
        for column in batch.columns:
            has_values |= pa.compute.not_equal(column, "").to_numpy(zero_copy_only=False)
            if has_values.all():
                break
        rows = batch if has_values.all() else batch.filter(pa.array(has_values))
        yield Rows({name: rows.column(name) for name in columns}, lines[has_values], unparsable)
    empty = {name: pa.array([], pa.string()) for name in columns}
    yield Rows(empty, np.zeros(0, dtype=np.int64), _pop_refused(refused, first_line))


def _pop_refused(refused: deque[Any], first_line: int, before: int | None = None) -> list[tuple[int, str]]:
    """Remove the refused rows above a line.

    Args:
        refused: Rows that Arrow refused, numbered from 1 below the header.
        first_line: Line below the header.
        before: The line; None: remove all.

    Returns:
        Line and reason of each removed row.
    """
    rows = []
    while refused and (before is None or refused[0].number + first_line - 1 < before):
        row = refused.popleft()
        fields = f"{row.actual_columns} field{'s' if row.actual_columns > 1 else ''}"
        rows.append((row.number + first_line - 1, f"{fields}, but the header has {row.expected_columns}"))
    return rows


def _require_whole_lines(batch: Any, lines: NDArray[np.int64]) -> None:
    """Check that no quoted field spans several lines.

    An unclosed quote would hide all later rows.

    Raises:
        ValueError: A field does.
    """
    for name in batch.schema.names:
        spans_lines = pa.compute.match_substring(batch.column(name), "\n")
        if pa.compute.any(spans_lines).as_py():
            line = int(lines[int(np.argmax(spans_lines.to_numpy(zero_copy_only=False)))])
            raise ValueError(f"line {line}: {name} has a quote that is not closed in its line")


def json_rows(file: BinaryIO, choose_columns: ChooseColumns) -> Iterator[Rows]:
    """Yield the rows of a JSON lines file, without blank lines.

    Args:
        file: The file, at its start.
        choose_columns: Given the keys of the first lines, returns those to read.

    Raises:
        ValueError: A column to read first appears after the lines that show the columns.
    """
    columns: list[str] | None = None
    keys: list[str] = []
    line = 1
    while lines := file.readlines(PART_BYTES):
        if columns is None:
            keys = _keys(lines[:_HEADER_ROWS])
            columns = choose_columns(keys)
        rows, more_keys = _parse_at_once(lines, columns, line) or _parse_one_by_one(lines, columns, line)
        late = [name for name in choose_columns([*keys, *more_keys]) if name not in columns]
        if late:
            raise ValueError(f"{late[0]} first appears after line {_HEADER_ROWS}; add it to the first line, as null")
        yield rows
        line += len(lines)


def _keys(lines: list[bytes]) -> list[str]:
    keys: dict[str, None] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            keys |= dict.fromkeys(flat(row))
    return list(keys)


def flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of an object and of the objects in it.

    Key b of an object a is `a.b`.
    """
    values: dict[str, Any] = {}
    for name, value in row.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return values


def _parse_at_once(lines: list[bytes], columns: list[str], first_line: int) -> tuple[Rows, Iterable[str]] | None:
    """Return the rows of many lines, and their keys.

    None: the lines need `_parse_one_by_one`.
    """
    try:
        table = pa.json.read_json(
            io.BytesIO(b"".join(lines)), pa.json.ReadOptions(use_threads=False, block_size=2 * PART_BYTES)
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(lines):
        return None
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    present = set(table.column_names)
    values = {
        name: table.column(name).combine_chunks() if name in present else pa.nulls(len(lines)) for name in columns
    }
    if not all(_is_plain(column.type) for column in values.values()):
        return None
    return Rows(values, np.arange(first_line, first_line + len(lines))), present


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether a column has numbers, strings or lists of integers.

    A column without values is plain too.
    """
    of_list = pa.types.is_list(kind) and pa.types.is_integer(kind.value_type)
    of_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(of_list or of_number or pa.types.is_null(kind) or pa.types.is_string(kind))


def _parse_one_by_one(lines: list[bytes], columns: list[str], first_line: int) -> tuple[Rows, Iterable[str]]:
    """Return the rows of lines, and their keys.

    Lines that are not JSON objects are unparsable rows, with a reason.
    """
    rows: list[dict[str, Any]] = []
    numbers, unparsable = [], []
    for number, line in zip(count(first_line), lines, strict=False):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            unparsable.append((number, f"not JSON: {error}"))
            continue
        if not isinstance(row, dict):
            unparsable.append((number, f"not a JSON object: {line.strip()[:40].decode(errors='replace')}"))
            continue
        rows.append(flat(row))
        numbers.append(number)
    values = {name: _array([row.get(name) for row in rows]) for name in columns}
    keys = dict.fromkeys(key for row in rows for key in row)
    return Rows(values, np.array(numbers, dtype=np.int64), unparsable), keys


def _array(values: list[Any]) -> pa.Array:
    """Return an array of lists, numbers or strings.

    It has lists if any value is a list, numbers if all are numbers, else strings. Among lists, a value that is not a
    list of integers becomes [null].
    """
    if any(isinstance(value, list) for value in values):
        lists = [_signed(value) if _is_integers(value) else None if value is None else [None] for value in values]
        return pa.array(lists, pa.list_(pa.int64()))
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and all(value is None or abs(value) < 1 << 63 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([value if value is None else float(value) for value in values], pa.float64())
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array(texts, pa.string())


def _is_integers(value: Any) -> bool:
    """Return whether a value is a list of integers of 64 bits."""
    return isinstance(value, list) and all(
        type(element) is int and -_SIGNED <= element < 2 * _SIGNED for element in value
    )


def _signed(values: list[int]) -> list[int]:
    """Return 64-bit integers as signed ones; hashes stay distinct."""
    return [value - 2 * _SIGNED if value >= _SIGNED else value for value in values]


def _decode(column: Any) -> Any:
    """Return a column without dictionary encoding or string views."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def parquet_rows(file: BinaryIO, choose_columns: ChooseColumns) -> Iterator[Rows]:
    """Yield the rows of a Parquet file, numbered from 1.

    Args:
        file: The file, at its start.
        choose_columns: Given the columns of the file, returns those to read.

    Raises:
        ValueError: It has too many columns, or several of one name.
    """
    table = pa.parquet.ParquetFile(pa.PythonFile(file, mode="r"))
    names = table.schema_arrow.names
    _require_columns(names)
    columns = choose_columns(names)
    first = 1
    for batch in table.iter_batches(batch_size=_PART_ROWS, columns=columns):
        numbers: NDArray[np.int64] = np.arange(first, first + batch.num_rows)
        yield Rows({name: _decode(batch.column(name)) for name in columns}, numbers)
        first += batch.num_rows
