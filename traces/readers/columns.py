"""Conversion of Arrow columns to NumPy arrays."""

import re
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Maximum number of blocks in a range; no prompt has as many.
_MOST_BLOCKS = 1 << 20
# Nanoseconds of 64 bits reach from 1677 to 2262.
_NANOSECOND_RANGE = datetime(1678, 1, 1), datetime(2262, 1, 1)
# A block id or a range of ids; ids that are hashes may be negative.
_RANGE = re.compile(r"(-?\d+)(?:-(-?\d+))?")


def to_floats(column: pa.Array) -> Floats:
    """Return float64[num_rows], NaN where a value is missing or not a number."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False))
        except pa.ArrowInvalid:
            text = pd.Series(column.to_pylist(), dtype=object).str.strip()
            return np.asarray(pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    return np.full(len(column), np.nan)


def to_nanoseconds(column: pa.Array) -> tuple[Ints, Bools]:
    """Convert timestamps to nanoseconds since 1970.

    Timestamps without a time zone are UTC.

    Returns:
        int64[num_rows] nanoseconds, and bool[num_rows] whether the row has a valid timestamp.
    """
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        has_zone = len(column) > 0 and _has_zone(column[0].as_py())
        try:
            column = pc.cast(column, pa.timestamp("ns", "UTC" if has_zone else None))
        except pa.ArrowInvalid:
            text = pd.Series(column.to_pylist(), dtype=object)
            parsed = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
            column = pa.Array.from_pandas(parsed)
    if not pa.types.is_timestamp(column.type):
        return np.zeros(len(column), dtype=np.int64), np.zeros(len(column), dtype=bool)
    try:
        column = pc.cast(column, pa.timestamp("ns", column.type.tz))
    except pa.ArrowInvalid:
        earliest, latest = (pa.scalar(time, column.type) for time in _NANOSECOND_RANGE)
        in_range = pc.and_(pc.greater(column, earliest), pc.less(column, latest))
        column = pc.cast(pc.if_else(in_range, column, None), pa.timestamp("ns", column.type.tz))
    nanoseconds = pc.cast(column, pa.int64())
    return pc.fill_null(nanoseconds, 0).to_numpy(), nanoseconds.is_valid().to_numpy(zero_copy_only=False)


def _has_zone(text: str | None) -> bool:
    time_of_day = (text or "")[10:]
    return any(sign in time_of_day for sign in "+-Zz")


def to_strings(column: pa.Array) -> pa.Array:
    """Return strings, null where a value is missing or empty."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.string())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        if pc.all(pc.equal(pc.floor(column), column)).as_py():
            column = pc.cast(column, pa.int64())
    strings = pc.cast(column, pa.string())
    return pc.if_else(pc.equal(strings, ""), None, strings)


def encode(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Number distinct strings in order of their first occurrence.

    Returns:
        int64[num_rows] number of each row, -1 where a string is missing, and the string of each number.
    """
    encoded = pc.dictionary_encode(column).combine_chunks()
    indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return indices.astype(np.int64), encoded.dictionary


def to_identifiers(column: pa.Array) -> NDArray[np.int64] | NDArray[np.object_]:
    """Return int64[num_rows] if all strings are integers in canonical form, else object[num_rows]."""
    if column.null_count == 0:
        try:
            integers = pc.cast(column, pa.int64())
        except pa.ArrowInvalid:
            pass
        else:
            if pc.all(pc.equal(pc.cast(integers, pa.string()), column), min_count=0).as_py():
                return np.asarray(integers.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False).astype(object))


def parse_block_lists(column: pa.Array) -> tuple[Ints, Ints, Bools]:
    """Parse lists of block ids, or their text form `first-last;single;first-last`.

    Returns:
        int64[num_blocks] ids, int64[num_rows] blocks of each row, and bool[num_rows] whether the row has a valid list.
    """
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lists = pc.cast(column, pa.list_(pa.int64()), safe=False)  # unsigned hashes wrap around
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        ids = lists.flatten()
        if ids.null_count:
            nulls = np.repeat(np.arange(len(counts)), counts)[ids.is_null().to_numpy(zero_copy_only=False)]
            good = ~np.isin(np.arange(len(counts)), nulls)
            return ids.fill_null(0).to_numpy(), counts, good
        return ids.to_numpy(zero_copy_only=False), counts, np.ones(len(counts), dtype=bool)
    parsed = [_parse_ranges(text) for text in to_strings(column).to_pylist()]
    rows = [np.zeros(0, dtype=np.int64) if row is None else row for row in parsed]
    good = np.array([row is not None for row in parsed], dtype=bool)
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    return ids, np.array([len(row) for row in rows], dtype=np.int64), good


def _parse_ranges(text: str | None) -> Ints | None:
    pieces = []
    for piece in (text or "").split(";"):
        if not piece:
            continue
        match = _RANGE.fullmatch(piece)
        if match is None:
            return None
        low, high = int(match[1]), int(match[2] or match[1])
        if not -(1 << 63) <= low <= high < min(low + _MOST_BLOCKS, 1 << 64):
            return None
        pieces.append(np.arange(high - low + 1) + np.uint64(low % (1 << 64)).astype(np.int64))
    return np.concatenate([np.zeros(0, dtype=np.int64), *pieces])
