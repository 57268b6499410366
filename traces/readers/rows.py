"""Rows as a file holds them, and the one place that refuses or skips malformed ones."""

from collections.abc import Mapping
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
        places: int64[num_rows], line or number of each row.
    """

    columns: Mapping[str, pa.Array]
    places: NDArray[np.int64]


class Malformed:
    """What is wrong with a file: the first row of it is an error, or all are counted.

    Attributes:
        count: Rows that were skipped.
    """

    def __init__(self, path: str, on_error: OnError, unit: str = "line") -> None:
        """Start with nothing wrong.

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

    def reject(self, place: int, reason: str, count: int = 1) -> None:
        """Refuse or skip a row, or several of which this is the first.

        Raises:
            ValueError: Malformed rows are not skipped.
        """
        message = f"{self._path} {self._unit} {place}: {reason}"
        if self._raises:
            raise ValueError(f"path: {message}; on_error=skip leaves such rows out")
        self._first = self._first or message
        self.count += count

    def require(self, good: Bools, keep: Bools, rows: Rows, column: str, rule: str) -> None:
        """Reject the rows that are kept so far and not good: bool[num_rows] each. `keep` loses them."""
        bad = keep & ~good
        if bad.any():
            row = int(np.argmax(bad))
            value = rows.columns[column][row].as_py()
            self.reject(int(rows.places[row]), f"{column} {rule}, got {value!r}", int(np.count_nonzero(bad)))
            keep &= good

    def notes(self) -> tuple[str, ...]:
        """What was skipped, in words."""
        if not self.count:
            return ()
        return (f"{self.count:,} malformed rows were skipped, the first: {self._first}",)
