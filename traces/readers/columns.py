"""Turns columns of a file into numbers: NaN where a value is none."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


# A prompt of so many blocks there is not.
_MOST_BLOCKS = 1 << 20
# A block or a range of them; numbers may be negative, as hashes are.
_RANGE = re.compile(r"(-?\d+)(?:-(-?\d+))?")


def numbers(column: pa.Array) -> Floats:
    """Return float64[num_rows], NaN for a missing value and for what is no number."""
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


def nanoseconds(column: pa.Array) -> tuple[Ints, Bools]:
    """Read dates and times of day; without a zone they are UTC.

    Returns:
        int64[num_rows] nanoseconds since 1970, and bool[num_rows] whether there is one.
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
    whole = pc.cast(pc.cast(column, pa.timestamp("ns", column.type.tz)), pa.int64())
    return pc.fill_null(whole, 0).to_numpy(), whole.is_valid().to_numpy(zero_copy_only=False)


def _has_zone(text: str | None) -> bool:
    time_of_day = (text or "")[10:]
    return any(sign in time_of_day for sign in "+-Zz")


def texts(column: pa.Array) -> pa.Array:
    """Return strings, null where a value is missing or empty."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.string())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        if pc.all(pc.equal(pc.floor(column), column)).as_py():
            column = pc.cast(column, pa.int64())
    strings = pc.cast(column, pa.string())
    return pc.if_else(pc.equal(strings, ""), None, strings)


def codes(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Number the strings in the order in which they first come; a missing one is -1.

    Returns:
        int64[num_rows], and the string of each number.
    """
    encoded = pc.dictionary_encode(column).combine_chunks()
    indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return indices.astype(np.int64), encoded.dictionary


def identifiers(column: pa.Array) -> NDArray[np.int64] | NDArray[np.object_]:
    """Return strings as an array: int64[num_rows] if all are numbers as one writes them, else of objects."""
    if column.null_count == 0:
        try:
            whole = pc.cast(column, pa.int64())
        except pa.ArrowInvalid:
            pass
        else:
            if pc.all(pc.equal(pc.cast(whole, pa.string()), column), min_count=0).as_py():
                return np.asarray(whole.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False).astype(object))


def block_lists(column: pa.Array) -> tuple[Ints, Ints, Bools]:
    """Read lists of block ids, or their text form `first-last;one;first-last`.

    Returns:
        int64[num_blocks] ids, int64[num_rows] number of each row, and bool[num_rows] whether the row has such a list.
    """
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lists = pc.cast(column, pa.list_(pa.int64()))
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        ids = lists.flatten()
        if ids.null_count:
            nulls = np.repeat(np.arange(len(counts)), counts)[ids.is_null().to_numpy(zero_copy_only=False)]
            good = ~np.isin(np.arange(len(counts)), nulls)
            return ids.fill_null(0).to_numpy(), counts, good
        return ids.to_numpy(zero_copy_only=False), counts, np.ones(len(counts), dtype=bool)
    rows = [_ranges(text) for text in texts(column).to_pylist()]
    found = [np.zeros(0, dtype=np.int64) if row is None else row for row in rows]
    good = np.array([row is not None for row in rows], dtype=bool)
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *found])
    return ids, np.array([len(row) for row in found], dtype=np.int64), good


def _ranges(text: str | None) -> Ints | None:
    pieces = []
    for piece in (text or "").split(";"):
        if not piece:
            continue
        found = _RANGE.fullmatch(piece)
        if found is None:
            return None
        low, high = int(found[1]), int(found[2] or found[1])
        if not -(1 << 63) <= low <= high < min(low + _MOST_BLOCKS, 1 << 63):
            return None
        pieces.append(np.arange(low, high + 1, dtype=np.int64))
    return np.concatenate([np.zeros(0, dtype=np.int64), *pieces])
