"""Conversion and validation of the values of rows."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import parse_block_lists, to_floats, to_nanoseconds, to_strings
from traces.readers.formats import Format
from traces.readers.rows import Bools, Check, Rows
from traces.trace import LARGEST_PRIORITY

Floats = NDArray[np.float64]
LARGEST = 2**31
# Beyond any time in seconds since 1970.
_LATEST_S = 1e12


class ValueReader:
    """Reader of the values of a file, part after part.

    Attributes:
        columns: Columns of the file by role.
        block_tokens: Tokens per prefix block; None: unknown so far.
    """

    def __init__(self, form: Format, columns: dict[str, str]) -> None:
        """Start at the first part of a file.

        Args:
            form: Format of the file.
            columns: Columns of the file by role.
        """
        self.columns = columns
        self.block_tokens = form.block_tokens
        self._form = form
        self._origin: float | None = None
        self._last_s = 0.0

    def read(self, rows: Rows, check: Check) -> dict[str, Floats]:
        """Return lengths, times and priorities by role: float64[num_rows].

        Malformed rows, which `check` drops, have arbitrary values.
        """
        values = {role: self._read_lengths(rows, role, check) for role in ("prompt_tokens", "output_tokens")}
        if "think_s" in self.columns:
            values["think_s"] = self._read_think_times(rows, check)
        if "arrival_s" in self.columns:
            values |= self._read_times(rows, check, values.get("think_s"))
        if "priority" in self.columns:
            values["priority"] = self._read_priorities(rows, check)
        return values

    def read_blocks(self, rows: Rows, check: Check) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the prefix blocks of rows.

        Returns:
            int64[num_blocks] block ids, row after row, and int64[num_rows] number of blocks of each row.
        """
        column = self.columns["block_ids"]
        ids, counts, good = parse_block_lists(rows.columns[column])
        check.require(good, column, "must be a list of block numbers")
        size_column = self.columns.get("block_tokens")
        if size_column is not None:
            sizes = to_floats(rows.columns[size_column])
            valid = sizes[check.keep & (sizes >= 1) & (sizes == np.floor(sizes))]
            if self.block_tokens is None and len(valid):
                self.block_tokens = int(valid[0])
            rule = "must be an integer of at least 1, the same in each row"
            check.require(sizes == (self.block_tokens or -1), size_column, rule)
        return ids, counts

    def _read_lengths(self, rows: Rows, role: str, check: Check) -> Floats:
        column = self.columns[role]
        lengths = to_floats(rows.columns[column])
        with np.errstate(invalid="ignore"):
            good = (lengths >= 1) & (lengths < LARGEST) & (lengths == np.floor(lengths))
        check.require(good, column, "must be an integer of at least 1 and below 2^31")
        return np.where(good, lengths, 1.0)

    def _read_priorities(self, rows: Rows, check: Check) -> Floats:
        column = self.columns["priority"]
        priorities = to_floats(rows.columns[column])
        with np.errstate(invalid="ignore"):
            good = (np.abs(priorities) <= LARGEST_PRIORITY) & (priorities == np.floor(priorities))
        check.require(
            good | _is_missing(rows.columns[column]), column, "must be an integer from -2^53 to 2^53, or empty"
        )
        return np.where(good, priorities, 0.0)

    def _read_think_times(self, rows: Rows, check: Check) -> Floats:
        column = self.columns["think_s"]
        think_s = to_floats(rows.columns[column]) / self._form.units_per_second
        good = _is_missing(rows.columns[column]) | (np.isfinite(think_s) & (think_s >= 0))
        check.require(good, column, "must be a finite number of at least 0, or empty")
        return np.where(good, think_s, np.nan)

    def _read_times(self, rows: Rows, check: Check, think_s: Floats | None) -> dict[str, Floats]:
        """Return arrival and think times by role: float64[num_rows].

        Rows without an arrival time have a think time; where a row has one of them, the other is NaN.
        """
        column, form = self.columns["arrival_s"], self._form
        waits = np.zeros(len(rows.numbers), dtype=bool)
        if think_s is not None:
            waits = _is_missing(rows.columns[column]) & ~np.isnan(think_s)
        arrival_s, good = self._read_arrivals(rows.columns[column], check.keep & ~waits)
        rule = (
            "must be a date and time"
            if form.has_timestamps
            else "must be a finite number of at least 0 and at most 1e12"
        )
        check.require(good | waits, column, rule)
        is_known = check.keep & ~waits
        latest_s = np.maximum(np.maximum.accumulate(np.where(is_known, arrival_s, 0.0)), self._last_s)
        decreases = is_known & (arrival_s < latest_s)
        if decreases.any():
            above_s = latest_s[int(np.argmax(decreases))]
            check.require(~decreases, column, f"must not decrease; a row above is at {above_s:.9g} s")
        if len(latest_s):
            self._last_s = float(latest_s[-1])
        times = {"arrival_s": np.where(waits, np.nan, arrival_s)}
        return times if think_s is None else times | {"think_s": np.where(waits, think_s, np.nan)}

    def _read_arrivals(self, column: pa.Array, is_used: Bools) -> tuple[Floats, Bools]:
        """Return arrival times, and whether they are valid.

        Returns:
            float64[num_rows] arrival times, seconds, and bool[num_rows] whether the row has a valid one.
        """
        form = self._form
        if form.has_timestamps:
            timestamps, good = to_nanoseconds(column)
            candidates = np.flatnonzero(good & is_used)
            if self._origin is None and len(candidates):
                self._origin = int(timestamps[candidates[0]])
            return (timestamps - int(self._origin or 0)) / 1e9, good
        times_s = to_floats(column) / form.units_per_second
        good = (times_s >= 0) & (times_s <= _LATEST_S)
        candidates = np.flatnonzero(good & is_used)
        if self._origin is None and len(candidates):
            self._origin = float(times_s[candidates[0]]) if form.starts_at_zero else 0.0
        return np.where(good, times_s - (self._origin or 0.0), 0.0), good


def _is_missing(column: pa.Array) -> Bools:
    return np.asarray(to_strings(column).is_null().to_numpy(zero_copy_only=False))
