"""Reads and checks the numbers of rows, one part of a file after the other."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import block_lists, nanoseconds, numbers, texts
from traces.readers.formats import Format
from traces.readers.rows import Bools, Check, Rows
from traces.trace import LARGEST_PRIORITY

Floats = NDArray[np.float64]
LARGEST = 2**31
# Later than any clock since 1970 would say.
_LATEST_S = 1e12


class Values:
    """Knows what a column of a format means, and what the parts before said.

    Attributes:
        columns: Columns that the file has, by role.
        block_tokens: Tokens of a prefix block; None: no row has said it so far.
    """

    def __init__(self, form: Format, columns: dict[str, str]) -> None:
        """Start at the first part.

        Args:
            form: What the columns mean.
            columns: Columns that the file has, by role.
        """
        self.columns = columns
        self.block_tokens = form.block_tokens
        self._form = form
        self._origin: float | None = None
        self._last_s = 0.0

    def read(self, rows: Rows, check: Check) -> dict[str, Floats]:
        """Return lengths, times and priorities by role: float64[num_rows].

        Those of rows that `check` does not keep mean nothing.
        """
        values = {role: self._lengths(rows, role, check) for role in ("prompt_tokens", "output_tokens")}
        if "think_s" in self.columns:
            values["think_s"] = self._think(rows, check)
        if "arrival_s" in self.columns:
            values |= self._times(rows, check, values.get("think_s"))
        if "priority" in self.columns:
            values["priority"] = self._priorities(rows, check)
        return values

    def blocks(self, rows: Rows, check: Check) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return prefix blocks: int64[num_blocks], row after row, and int64[num_rows] how many each has."""
        column = self.columns["block_ids"]
        ids, counts, good = block_lists(rows.columns[column])
        check.require(good, column, "must be a list of block numbers")
        sizes = self.columns.get("block_tokens")
        if sizes is not None:
            found = numbers(rows.columns[sizes])
            valid = found[check.keep & (found >= 1) & (found == np.floor(found))]
            if self.block_tokens is None and len(valid):
                self.block_tokens = int(valid[0])
            rule = "must be an integer of at least 1, the same in each row"
            check.require(found == (self.block_tokens or -1), sizes, rule)
        return ids, counts

    def _lengths(self, rows: Rows, role: str, check: Check) -> Floats:
        column = self.columns[role]
        found = numbers(rows.columns[column])
        with np.errstate(invalid="ignore"):
            good = (found >= 1) & (found < LARGEST) & (found == np.floor(found))
        check.require(good, column, "must be an integer of at least 1 and below 2^31")
        return np.where(good, found, 1.0)

    def _priorities(self, rows: Rows, check: Check) -> Floats:
        column = self.columns["priority"]
        found = numbers(rows.columns[column])
        with np.errstate(invalid="ignore"):
            good = (np.abs(found) <= LARGEST_PRIORITY) & (found == np.floor(found))
        check.require(
            good | _missing(rows.columns[column]), column, "must be an integer from -2^53 to 2^53, or nothing"
        )
        return np.where(good, found, 0.0)

    def _think(self, rows: Rows, check: Check) -> Floats:
        column = self.columns["think_s"]
        found = numbers(rows.columns[column]) / self._form.per_second
        good = _missing(rows.columns[column]) | (np.isfinite(found) & (found >= 0))
        check.require(good, column, "must be a finite number of at least 0, or nothing")
        return np.where(good, found, np.nan)

    def _times(self, rows: Rows, check: Check, think_s: Floats | None) -> dict[str, Floats]:
        """Return the arrivals, and the think times of the rows that have no arrival."""
        column, form = self.columns["arrival_s"], self._form
        waits = np.zeros(len(rows.places), dtype=bool)
        if think_s is not None:
            waits = _missing(rows.columns[column]) & ~np.isnan(think_s)
        arrival_s, good = self._arrivals(rows.columns[column], check.keep & ~waits)
        rule = "must be a date and time" if form.moments else "must be a finite number of at least 0 and at most 1e12"
        check.require(good | waits, column, rule)
        known = check.keep & ~waits
        latest_s = np.maximum(np.maximum.accumulate(np.where(known, arrival_s, 0.0)), self._last_s)
        goes_back = known & (arrival_s < latest_s)
        if goes_back.any():
            late_s = latest_s[int(np.argmax(goes_back))]
            check.require(~goes_back, column, f"must not go back, a row above is at {late_s:.9g} s")
        if len(latest_s):
            self._last_s = float(latest_s[-1])
        times = {"arrival_s": np.where(waits, np.nan, arrival_s)}
        return times if think_s is None else times | {"think_s": np.where(waits, think_s, np.nan)}

    def _arrivals(self, column: pa.Array, wanted: Bools) -> tuple[Floats, Bools]:
        """Return seconds, and whether there are any, by row."""
        form = self._form
        if form.moments:
            moments, good = nanoseconds(column)
            first = np.flatnonzero(good & wanted)
            if self._origin is None and len(first):
                self._origin = int(moments[first[0]])
            return (moments - int(self._origin or 0)) / 1e9, good
        found = numbers(column) / form.per_second
        good = (found >= 0) & (found <= _LATEST_S)
        first = np.flatnonzero(good & wanted)
        if self._origin is None and len(first):
            self._origin = float(found[first[0]]) if form.rebased else 0.0
        return np.where(good, found - (self._origin or 0.0), 0.0), good


def _missing(column: pa.Array) -> Bools:
    return np.asarray(texts(column).is_null().to_numpy(zero_copy_only=False))
