"""Arrival times: seconds, dates and times of day, or times since 1970."""

from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import to_floats, to_nanoseconds
from traces.readers.rows import Bools

Floats = NDArray[np.float64]
# A larger time is in milliseconds, microseconds or nanoseconds since 1970.
LATEST_S = 1e11


class Clock(Protocol):
    """How a column of a file tells the time.

    Attributes:
        rule: What a value must be.
    """

    rule: str

    def read(self, column: pa.Array, is_used: Bools) -> tuple[Floats, Bools]:
        """Convert a part of the column.

        Args:
            column: Values of the rows.
            is_used: bool[num_rows], rows that need a time.

        Returns:
            float64[num_rows] seconds since the first row that has a time, and bool[num_rows] whether the row has one.
        """
        ...


def clock_of(column: pa.Array, is_used: Bools, units_per_second: float) -> Clock:
    """Return the clock of a column, by its first part.

    Args:
        column: Values of the part.
        is_used: bool[num_rows], rows that need a time.
        units_per_second: Units of numbers per second.
    """
    numbers = to_floats(column)[is_used]
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) == 0 and to_nanoseconds(column)[1].any():
        return Dates()
    while len(numbers) and numbers[0] / units_per_second > LATEST_S:
        units_per_second *= 1000
    return Numbers(units_per_second)


class Dates:
    """Dates and times of day."""

    rule = "must be a date and time"

    def __init__(self) -> None:
        self._origin: int | None = None

    def read(self, column: pa.Array, is_used: Bools) -> tuple[Floats, Bools]:
        """Convert a part of the column."""
        nanoseconds, good = to_nanoseconds(column)
        used = nanoseconds[good & is_used]
        if self._origin is None and len(used):
            self._origin = int(used[0])
        return (nanoseconds - (self._origin or 0)) / 1e9, good


class Numbers:
    """Numbers of seconds, or of another unit."""

    rule = "must be a finite number of at least 0, or a date and time like the first row"

    def __init__(self, units_per_second: float) -> None:
        self._units_per_second = units_per_second
        self._origin_s: float | None = None

    def read(self, column: pa.Array, is_used: Bools) -> tuple[Floats, Bools]:
        """Convert a part of the column."""
        times_s = to_floats(column) / self._units_per_second
        good = (times_s >= 0) & (times_s <= LATEST_S)
        used = times_s[good & is_used]
        if self._origin_s is None and len(used):
            self._origin_s = float(used[0])
        return np.where(good, times_s - (self._origin_s or 0.0), 0.0), good
