"""Checks rows and collects them to a trace."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import block_lists, codes, nanoseconds, numbers, texts
from traces.readers.formats import Format
from traces.readers.rows import Bools, Check, Malformed, Rows
from traces.trace import Client, PrefixBlocks, Trace

Floats = NDArray[np.float64]
_LARGEST = 2**31
_TEXTS = ("request_id", "session", "parent", "client")
UNNAMED = "(unnamed)"


@dataclass(frozen=True)
class Selection:
    """Which of a file's good rows are wanted.

    Attributes:
        num_requests: Rows at most, from the first; None: all.
        max_total_tokens: Longest prompt and output together; None: any.
        start_s: Rows that arrive earlier are left out; the trace begins there.
        duration_s: Seconds from `start_s` on; None: to the end.
    """

    num_requests: int | None = None
    max_total_tokens: int | None = None
    start_s: float = 0.0
    duration_s: float | None = None

    @property
    def is_window(self) -> bool:
        """Whether rows are chosen by their time."""
        return self.start_s > 0 or self.duration_s is not None


class Collector:
    """Takes the rows of a file, part by part, as far as they are wanted."""

    def __init__(self, form: Format, columns: list[str], malformed: Malformed, selection: Selection) -> None:
        """Start empty.

        Args:
            form: What the columns mean.
            columns: Names of the columns that the file has.
            malformed: Refuses or skips rows.
            selection: Which rows are wanted.
        """
        self._form = form
        self._columns = form.found_in(columns)
        self._malformed = malformed
        self._selection = selection
        self._parts: dict[str, list[Any]] = defaultdict(list)
        self._num_rows = 0
        self._num_seen = 0
        self._num_longer = 0
        self._origin: float | None = None
        self._last_s = 0.0
        self._block_tokens = form.block_tokens

    @property
    def needed(self) -> list[str]:
        """Names of the columns that are read."""
        return list(self._columns.values())

    def add(self, rows: Rows) -> bool:
        """Take some rows.

        Returns:
            Whether more are wanted.

        Raises:
            ValueError: A row is malformed, and such rows are not skipped.
        """
        check = Check(rows)
        values = {name: self._lengths(rows, name, check) for name in ("prompt_tokens", "output_tokens")}
        lists = self._blocks(rows, check)
        if "arrival_s" in self._columns:
            values |= self._times(rows, check)
        keep = check.keep
        more = self._select(values, keep)
        # What is behind the last row that is wanted does not matter.
        end = None if more else int(np.flatnonzero(keep)[-1]) + 1 if keep.any() else 0
        self._num_seen += len(keep) if end is None else end
        count, first = check.found(end)
        if first is not None:
            self._malformed.reject(count, *first)
        for name, one in values.items():
            self._parts[name].append(one[keep].astype(np.float64 if name.endswith("_s") else np.int64))
        for name in _TEXTS:
            if name in self._columns:
                self._parts[name].append(texts(rows.columns[self._columns[name]]).filter(pa.array(keep)))
        if lists is not None:
            ids, counts = lists
            kept = ids if keep.all() else ids[np.repeat(keep, counts)]
            # Most of the memory of a trace with prefixes, and few have more blocks than this.
            small = len(kept) == 0 or kept.max() < _LARGEST
            self._parts["block_ids"].append(kept.astype(np.int32) if small else kept.copy())
            self._parts["num_blocks"].append(counts[keep])
        if "request_id" in self._columns:
            self._parts["place"].append(rows.places[keep])
        self._num_rows += int(np.count_nonzero(keep))
        return more

    def trace(self) -> Trace:
        """Return what was collected.

        Raises:
            ValueError: That is nothing, or an identifier occurs twice.
        """
        if self._num_rows == 0:
            seen = self._num_seen or self._malformed.count
            raise ValueError(f"no request is left of {seen:,} rows" if seen else "no requests")
        parts = {name: self._joined(name) for name in list(self._parts)}
        clients, number = self._clients(parts)
        blocks = parts.get("block_ids")
        trace = Trace(
            parts["prompt_tokens"],
            parts["output_tokens"],
            arrival_s=parts.get("arrival_s"),
            think_s=parts.get("think_s"),
            session=self._sessions(parts),
            client=number,
            clients=clients,
            prefix=None if blocks is None else PrefixBlocks.of_lengths(blocks, parts["num_blocks"], self._block_tokens),
        )
        ids = parts.get("request_id")
        if ids is not None:
            unique = self._unique(ids, parts["place"])
            named = replace(trace, request_id=np.asarray(ids.to_numpy(zero_copy_only=False), dtype=str))
            trace = named if unique.all() else named.take(unique)
        return replace(trace, num_skipped=self._malformed.count, notes=(*self._malformed.notes(), *self._notes()))

    def _joined(self, name: str) -> Any:
        parts = self._parts.pop(name)
        return pa.chunked_array(parts, pa.string()) if name in _TEXTS else np.concatenate(parts)

    def _lengths(self, rows: Rows, role: str, check: Check) -> Floats:
        column = self._columns[role]
        found = numbers(rows.columns[column])
        with np.errstate(invalid="ignore"):
            good = (found >= 1) & (found < _LARGEST) & (found == np.floor(found))
        check.require(good, column, "must be an integer of at least 1 and below 2^31")
        return np.where(good, found, 1.0)

    def _times(self, rows: Rows, check: Check) -> dict[str, Floats]:
        column, form = self._columns["arrival_s"], self._form
        think_s = self._think(rows, check)
        waits = np.zeros(len(rows.places), dtype=bool)
        if think_s is not None:
            waits = texts(rows.columns[column]).is_null().to_numpy(zero_copy_only=False) & ~np.isnan(think_s)
            think_s = np.where(waits, think_s, np.nan)
        arrival_s, good = self._arrivals(rows.columns[column], check.keep & ~waits)
        rule = "must be a date and time" if form.moments else "must be a finite number of at least 0"
        check.require(good | waits, column, rule)
        known = check.keep & ~waits
        latest_s = np.maximum.accumulate(np.where(known, arrival_s, self._last_s))
        latest_s = np.maximum(latest_s, self._last_s)
        check.require(waits | (arrival_s >= latest_s), column, "must not be before that of the row above")
        if len(latest_s):
            self._last_s = float(latest_s[-1])
        values = {"arrival_s": np.where(waits, np.nan, arrival_s)}
        return values if think_s is None else values | {"think_s": think_s}

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
        good = np.isfinite(found) & (found >= 0)
        first = np.flatnonzero(good & wanted)
        if self._origin is None and len(first):
            self._origin = float(found[first[0]]) if form.rebased else 0.0
        return np.where(good, found - (self._origin or 0.0), 0.0), good

    def _think(self, rows: Rows, check: Check) -> Floats | None:
        if "think_s" not in self._columns:
            return None
        column = self._columns["think_s"]
        found = numbers(rows.columns[column]) / self._form.per_second
        missing = texts(rows.columns[column]).is_null().to_numpy(zero_copy_only=False)
        good = missing | (np.isfinite(found) & (found >= 0))
        check.require(good, column, "must be a finite number of at least 0, or nothing")
        return np.where(good, found, np.nan)

    def _blocks(self, rows: Rows, check: Check) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        if "block_ids" not in self._columns:
            return None
        column = self._columns["block_ids"]
        ids, counts, good = block_lists(rows.columns[column])
        check.require(good, column, "must be a list of block numbers")
        if "block_tokens" in self._columns and len(rows.places):
            sizes = self._columns["block_tokens"]
            found = numbers(rows.columns[sizes])
            if self._block_tokens is None and found[0] >= 1:
                self._block_tokens = int(found[0])
            same = found == (self._block_tokens or -1)
            check.require(same, sizes, "must be an integer of at least 1, the same in each row")
        return ids, counts

    def _select(self, values: dict[str, Floats], keep: Bools) -> bool:
        """Let `keep` lose the rows that are not wanted.

        Returns:
            Whether more rows are wanted.
        """
        wanted, more = self._selection, True
        if wanted.max_total_tokens is not None:
            short = values["prompt_tokens"] + values["output_tokens"] <= wanted.max_total_tokens
            self._num_longer += int(np.count_nonzero(keep & ~short))
            keep &= short
        if wanted.is_window:
            arrival_s = self._window_times(values)
            keep &= arrival_s >= wanted.start_s
            if wanted.duration_s is not None:
                more = not bool(np.any(keep & (arrival_s >= wanted.start_s + wanted.duration_s)))
                keep &= arrival_s < wanted.start_s + wanted.duration_s
            values["arrival_s"] = arrival_s - wanted.start_s
        if wanted.num_requests is not None:
            keep &= np.cumsum(keep) <= wanted.num_requests - self._num_rows
            more = more and self._num_rows + int(np.count_nonzero(keep)) < wanted.num_requests
        return more

    def _window_times(self, values: dict[str, Floats]) -> Floats:
        if "arrival_s" not in values or np.isnan(values["arrival_s"]).any():
            raise ValueError("start_s and duration_s need arrival times in every row")
        return values["arrival_s"]

    def _clients(self, parts: dict[str, Any]) -> tuple[tuple[Client, ...], NDArray[np.int64] | None]:
        if "client" not in parts:
            return (), None
        number, names = codes(parts["client"])
        if (number < 0).any():
            names = [*names, UNNAMED]
            number = np.where(number < 0, len(names) - 1, number)
        return tuple(map(Client, names)), number

    @staticmethod
    def _sessions(parts: dict[str, Any]) -> NDArray[np.int64] | None:
        if "session" in parts:
            return codes(parts["session"])[0]
        if "parent" not in parts:
            return None
        session: dict[str | None, int] = {}
        ids, parents = parts["request_id"].to_pylist(), parts["parent"].to_pylist()
        for request, parent in zip(ids, parents, strict=True):
            session[request] = session.get(parent, len(session))
        return np.unique([session[request] for request in ids], return_inverse=True)[1].astype(np.int64)

    def _unique(self, ids: pa.ChunkedArray, places: NDArray[np.int64]) -> Bools:
        number = codes(ids)[0]
        _, first = np.unique(number, return_index=True)
        unique = np.zeros(len(number), dtype=bool)
        unique[first] = True
        unique &= number >= 0
        for row in np.flatnonzero(~unique).tolist():
            name = self._columns["request_id"]
            self._malformed.reject(1, int(places[row]), f"{name} must be unique, got {ids[row].as_py()!r}")
        return unique

    def _notes(self) -> tuple[str, ...]:
        if not self._num_longer:
            return ()
        cut = self._selection.max_total_tokens
        return (f"{self._num_longer:,} requests longer than max_total_tokens={cut} were left out",)
