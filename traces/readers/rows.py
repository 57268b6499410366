"""Rows of a file, and the handling of malformed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traces.shared.warnings import Warning

OnError = Literal["error", "skip"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file.

    Attributes:
        columns: Raw values by column name.
        numbers: int64[num_rows], line or row number in the file, increasing.
        unparsable: Number of each row that could not be parsed, and the reason.
    """

    columns: Mapping[str, pa.Array]
    numbers: NDArray[np.int64]
    unparsable: Sequence[tuple[int, str]] = ()


class Check:
    """Validation of rows.

    Attributes:
        keep: bool[num_rows], rows that are valid so far.
    """

    def __init__(self, rows: Rows) -> None:
        """Start with all rows valid."""
        self.keep = np.ones(len(rows.numbers), dtype=bool)
        self._rows = rows
        self._bad = np.zeros(len(rows.numbers), dtype=bool)
        self._violations: list[tuple[int, str, str]] = []  # first row that breaks a rule, column, rule

    def require(self, good: Bools, column: str, rule: str) -> None:
        """Mark rows that break a rule as malformed.

        Args:
            good: bool[num_rows], False for the rows that break the rule, which are dropped from `keep`.
            column: Column that is checked.
            rule: What its values must be, for the message.
        """
        bad = self.keep & ~good
        if bad.any():
            self._violations.append((int(np.argmax(bad)), column, rule))
            self._bad |= bad
            self.keep &= good

    def count_malformed(self, end: int | None) -> tuple[int, tuple[int, str] | None]:
        """Count the malformed rows.

        Args:
            end: Count only rows before this index; None: all.

        Returns:
            The count, and number and reason of the first malformed row; None: there is none.
        """
        rows, unparsable = self._rows, list(self._rows.unparsable)
        if end is None:
            end = len(rows.numbers)
        else:
            last = int(rows.numbers[end - 1]) if end else 0
            unparsable = [row for row in unparsable if row[0] < last]
        firsts = [(int(rows.numbers[row]), self._reason(row, *rest)) for row, *rest in self._violations if row < end]
        first = min([*firsts, *unparsable], default=None)
        return int(np.count_nonzero(self._bad[:end])) + len(unparsable), first

    def _reason(self, row: int, column: str, rule: str) -> str:
        return f"{column} {rule}, got {self._rows.columns[column][row].as_py()!r}"


class MalformedRows:
    """Policy for malformed rows: raise at the first, or skip and count.

    Attributes:
        count: Number of skipped rows.
    """

    def __init__(self, path: str, on_error: OnError, unit: str = "line") -> None:
        """Start without malformed rows.

        Args:
            path: Name of the file.
            on_error: Whether to raise ("error") or to skip ("skip").
            unit: Word for a row in messages: line, row, ...
        """
        self.count = 0
        self._path = path
        self._raises = on_error == "error"
        self._unit = unit
        self._first = ""

    def reject(self, count: int, number: int, reason: str) -> None:
        """Raise an error or skip rows.

        Args:
            count: Rows to skip.
            number: Line or row number of the first.
            reason: What is wrong with it.

        Raises:
            ValueError: Malformed rows are not skipped.
        """
        message = f"{self._path} {self._unit} {number}: {reason}"
        if self._raises:
            raise ValueError(f"path: {message}; on_error=skip leaves such rows out")
        self._first = self._first or message
        self.count += count

    @property
    def notes(self) -> tuple[Warning, ...]:
        """Notes about the skipped rows; empty if there are none."""
        if not self.count:
            return ()
        rows = "1 malformed row was" if self.count == 1 else f"{self.count:,} malformed rows were"
        return (Warning("rows_skipped", f"{rows} skipped, the first: {self._first}"),)
