"""Rows as a file holds them, and the one place that refuses or skips malformed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

OnError = Literal["error", "skip"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Some rows of a file.

    Attributes:
        columns: Values by name of the column, as the file has them.
        places: int64[num_rows], line or number of each row, rising.
        broken: Places of what is no row at all, and why.
    """

    columns: Mapping[str, pa.Array]
    places: NDArray[np.int64]
    broken: Sequence[tuple[int, str]] = ()


class Check:
    """What is wrong with some rows.

    Attributes:
        keep: bool[num_rows], rows with which nothing is wrong so far.
    """

    def __init__(self, rows: Rows) -> None:
        """Start with nothing wrong."""
        self.keep = np.ones(len(rows.places), dtype=bool)
        self._rows = rows
        self._bad = np.zeros(len(rows.places), dtype=bool)
        self._rules: list[tuple[int, str, str]] = []  # first row that breaks it, column, rule

    def require(self, good: Bools, column: str, rule: str) -> None:
        """Note the rows that are not good: bool[num_rows]. `keep` loses them."""
        bad = self.keep & ~good
        if bad.any():
            self._rules.append((int(np.argmax(bad)), column, rule))
            self._bad |= bad
            self.keep &= good

    def found(self, end: int | None) -> tuple[int, tuple[int, str] | None]:
        """Return how many rows are malformed, and place and reason of the first; None: there is none.

        Args:
            end: Only those in front of this row count; None: all.
        """
        rows, broken = self._rows, list(self._rows.broken)
        if end is None:
            end = len(rows.places)
        else:
            last = int(rows.places[end - 1]) if end else 0
            broken = [one for one in broken if one[0] < last]
        firsts = [(int(rows.places[row]), self._reason(row, *rest)) for row, *rest in self._rules if row < end]
        first = min([*firsts, *broken], default=None)
        return int(np.count_nonzero(self._bad[:end])) + len(broken), first

    def _reason(self, row: int, column: str, rule: str) -> str:
        return f"{column} {rule}, got {self._rows.columns[column][row].as_py()!r}"


class Malformed:
    """Malformed rows of a file: the first of them is an error, or all are counted.

    Attributes:
        count: Rows that were skipped.
    """

    def __init__(self, path: str, on_error: OnError, unit: str = "line") -> None:
        """Start with none.

        Args:
            path: Name of the file.
            on_error: What to do.
            unit: What a place is called: line, row, ...
        """
        self.count = 0
        self._path = path
        self._raises = on_error == "error"
        self._unit = unit
        self._first = ""

    def reject(self, count: int, place: int, reason: str) -> None:
        """Refuse or skip so many rows, of which the first has this place.

        Raises:
            ValueError: Malformed rows are not skipped.
        """
        message = f"{self._path} {self._unit} {place}: {reason}"
        if self._raises:
            raise ValueError(f"path: {message}; on_error=skip leaves such rows out")
        self._first = self._first or message
        self.count += count

    @property
    def notes(self) -> tuple[str, ...]:
        """What was skipped, in words."""
        if not self.count:
            return ()
        rows = "1 malformed row was" if self.count == 1 else f"{self.count:,} malformed rows were"
        return (f"{rows} skipped, the first: {self._first}",)
