"""Requests from a CSV file."""

import warnings
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from traces.trace import Trace

# Accepted names of each column: ours, then those of published traces (Vidur, Azure).
_COLUMNS = {
    "prompt_tokens": ("prompt_tokens", "num_prefill_tokens", "ContextTokens"),
    "output_tokens": ("output_tokens", "num_decode_tokens", "GeneratedTokens"),
    "arrival_s": ("arrival_s", "TIMESTAMP"),
    "request_id": ("request_id",),
    "session": ("session", "session_id"),
}
_LARGEST = 2**31


@dataclass(frozen=True)
class CSVFile:
    """Requests of a CSV file, plain or gzip, one a row.

    Columns: prompt_tokens (or num_prefill_tokens, ContextTokens), output_tokens (or num_decode_tokens,
    GeneratedTokens) and optionally arrival_s in seconds (or TIMESTAMP, a date and time; the first row
    arrives at 0), request_id and session (or session_id; any text, empty: in none). Other columns are not read.

    Attributes:
        path: The file.
        num_requests: Rows to read at most, from the first; None: all.
    """

    path: str
    num_requests: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not isinstance(self.path, str):
            raise ValueError(f"path must name a CSV file, got {self.path!r}")
        count = self.num_requests
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ValueError(f"num_requests must be an integer of at least 1 or null, got {count!r}")

    def load(self, rng: np.random.Generator) -> Trace:
        """Read the requests.

        Raises:
            ValueError: The file cannot be read or a row is malformed; with file and line.
        """
        rows = self._rows()
        columns = {name: found for name, names in _COLUMNS.items() if (found := self._find(rows, names))}
        for name in ("prompt_tokens", "output_tokens"):
            if name not in columns:
                raise ValueError(
                    f"path: {self.path} has no column {' or '.join(_COLUMNS[name])}; it has: {', '.join(rows.columns)}"
                )
        lengths = [self._lengths(rows[columns[name]]) for name in ("prompt_tokens", "output_tokens")]
        arrival_s = self._arrivals(rows[columns["arrival_s"]]) if "arrival_s" in columns else None
        request_id = self._identifiers(rows[columns["request_id"]]) if "request_id" in columns else None
        session = self._sessions(rows[columns["session"]]) if "session" in columns else None
        prompt_tokens, output_tokens = lengths
        return Trace(prompt_tokens, output_tokens, arrival_s=arrival_s, request_id=request_id, session=session)

    def _rows(self) -> pd.DataFrame:
        try:
            with open(self.path, "rb") as file:
                compression: Literal["gzip"] | None = "gzip" if file.read(2) == b"\x1f\x8b" else None
            with warnings.catch_warnings():
                # A row with more fields than the header is an error and not an index column or a loss of data.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                rows = pd.read_csv(
                    self.path,
                    compression=compression,
                    dtype=str,
                    index_col=False,
                    keep_default_na=False,
                    skip_blank_lines=False,
                    skipinitialspace=True,
                    encoding="utf-8-sig",
                    nrows=self.num_requests,
                )
        except pd.errors.ParserWarning:
            raise ValueError(f"path: {self.path} has rows of more fields than its header") from None
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, pd.errors.ParserError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise ValueError(f"path: cannot read {self.path}: {reason}") from error
        except pd.errors.EmptyDataError:
            raise ValueError(f"path: {self.path} has no header in its first line, as of an empty file") from None
        rows = rows.fillna("").rename(columns=str.strip)
        rows = rows[~(rows == "").all(axis=1)]
        if len(rows) == 0:
            raise ValueError(f"path: {self.path} has no requests; it needs at least one row under its header")
        return rows

    @staticmethod
    def _find(rows: pd.DataFrame, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in rows.columns), None)

    def _lengths(self, column: "pd.Series[str]") -> NDArray[np.int64]:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        with np.errstate(invalid="ignore"):
            good = (numbers >= 1) & (numbers < _LARGEST) & (numbers == np.floor(numbers))
        self._require(good, column, "must be an integer of at least 1 and below 2^31")
        return numbers.astype(np.int64)

    def _arrivals(self, column: "pd.Series[str]") -> NDArray[np.float64]:
        if column.name == "TIMESTAMP":
            moments = pd.to_datetime(column, errors="coerce", format="ISO8601")
            self._require(moments.notna().to_numpy(), column, "must be a date and time")
            numbers = (moments - moments.iloc[0]).dt.total_seconds().to_numpy(dtype=np.float64)
        else:
            numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        self._require(np.isfinite(numbers) & (numbers >= 0), column, "must be a finite number of at least 0")
        self._require(np.diff(numbers, prepend=0.0) >= 0, column, "must not be before that of the row above")
        return np.asarray(numbers, dtype=np.float64)

    def _identifiers(self, column: "pd.Series[str]") -> NDArray[np.str_]:
        self._require(~column.duplicated().to_numpy(), column, "must be unique")
        return column.to_numpy(dtype=str)

    @staticmethod
    def _sessions(column: "pd.Series[str]") -> NDArray[np.int64]:
        """Number the sessions in the order in which they begin; -1: in none."""
        codes, _ = pd.factorize(column.where(column != "", None))
        return np.asarray(codes, dtype=np.int64)

    def _require(self, good: NDArray[np.bool_], column: "pd.Series[str]", rule: str) -> None:
        if not good.all():
            row = int(np.argmin(good))
            line = int(column.index[row]) + 2  # the header is line 1
            raise ValueError(f"path: {self.path} line {line}: {column.name} {rule}, got {column.iloc[row]!r}")
