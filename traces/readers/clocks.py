"""Arrival times: dates and times of day, or numbers."""

from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import to_floats, to_nanoseconds
from traces.readers.rows import Bools

Floats = NDArray[np.float64]
# A larger time is in milliseconds, microseconds or nanoseconds since 1970.
LATEST_S = 1e11
# A log whose first time is later counts from something else than its start.
LATEST_START_S = 60.0


class Clock(Protocol):
    """How a column of a file tells the time.

    Attributes:
        rule: What a value must be.
        is_shifted: Whether time 0 is the first request.
        origin_s: Number in the file that became time 0, seconds; 0 for dates.
    """

    rule: str
    is_shifted: bool
    origin_s: float

    def read(self, column: pa.Array, is_used: Bools) -> tuple[Floats, Bools]:
        """Convert a part of the column.

        Args:
            column: Values of the rows.
            is_used: bool[num_rows], rows that need a time.

        Returns:
            float64[num_rows] seconds, from about the first row if times are shifted, and bool[num_rows] whether the row
            has a time.
        """
        ...


def clock_of(column: pa.Array, is_used: Bools, units_per_second: float, *, is_shifted: bool = False) -> Clock:
    """Return the clock of a column, by its first part.

    Args:
        column: Values of the part.
        is_used: bool[num_rows], rows that need a time.
        units_per_second: Units of numbers per second, unless they are too large for that.
        is_shifted: Whether time 0 is the first request however early it is.
    """
    numbers = to_floats(column)
    known = np.flatnonzero(np.isfinite(numbers) & is_used)
    first = int(known[0]) if len(known) else len(numbers)
    if (to_nanoseconds(column[:first])[1] & is_used[:first]).any():
        return Dates()
    while len(known) and numbers[first] / units_per_second > LATEST_S and units_per_second < 1e9:
        units_per_second *= 1000
    starts_late = len(known) > 0 and numbers[first] / units_per_second >= LATEST_START_S
    return Numbers(units_per_second, is_shifted=is_shifted or bool(starts_late))


class Dates:
    """Dates and times of day, as in ISO 8601.

    Without a time zone they are UTC.
    """

    rule = "must be a date and time, as in the rows before"
    is_shifted = True
    origin_s = 0.0

    def __init__(self) -> None:
        """Start before the first row."""
        self._origin: int | None = None

    def read(self, column: pa.Array, is_used: Bools) -> tuple[Floats, Bools]:
        """Convert a part of the column."""
        nanoseconds, good = to_nanoseconds(column)
        used = nanoseconds[good & is_used]
        if self._origin is None and len(used):
            self._origin = int(used[0])
        return (nanoseconds - (self._origin or 0)) / 1e9, good


class Numbers:
    """Numbers of seconds or of another unit."""

    rule = "must be a number of at least 0, or in each row a date and time"

    def __init__(self, units_per_second: float, *, is_shifted: bool) -> None:
        """Start before the first row.

        Args:
            units_per_second: Units per second.
            is_shifted: Whether time 0 is the first request.
        """
        self.is_shifted = is_shifted
        self._units_per_second = units_per_second
        self.origin_s = 0.0
        self._has_begun = False

    def read(self, column: pa.Array, is_used: Bools) -> tuple[Floats, Bools]:
        """Convert a part of the column."""
        times_s = to_floats(column) / self._units_per_second
        with np.errstate(invalid="ignore"):
            good = (times_s >= 0) & (times_s <= LATEST_S)
        used = times_s[good & is_used]
        if len(used) and not self._has_begun:
            self._has_begun = True
            self.origin_s = float(used[0]) if self.is_shifted else 0.0
        return np.where(good, times_s - self.origin_s, 0.0), good
