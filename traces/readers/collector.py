"""Collection of the valid, selected rows of a file into a trace."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.clocks import LATEST_START_S
from traces.readers.columns import encode, to_identifiers, to_strings
from traces.readers.formats import Format
from traces.readers.identities import encode_clients, is_first, join_identifiers, sessions_by_parent
from traces.readers.rows import Bools, Check, MalformedRows, Rows
from traces.readers.values import LARGEST, Floats, ValueReader
from traces.shared.warnings import Warning
from traces.trace import PrefixBlocks, Trace

_STRING_ROLES = ("request_id", "session", "parent", "client")


@dataclass(frozen=True)
class Selection:
    """Limits on the valid rows that are read.

    Attributes:
        num_requests: Maximum number of rows, from the first; None: all.
        max_total_tokens: Longest prompt and output together; None: no limit.
        start_s: Start of the time window, seconds, which becomes time 0 of the trace.
        duration_s: Length of the time window, seconds; None: to the end.
        output_tokens: Output tokens of requests without a length of their own; None: they are malformed.
    """

    num_requests: int | None = None
    max_total_tokens: int | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    output_tokens: int | None = None

    @property
    def is_window(self) -> bool:
        """Whether rows are selected by arrival time."""
        return self.start_s > 0 or self.duration_s is not None


class Collector:
    """Collects the selected rows of a file, part by part."""

    def __init__(self, form: Format, columns: list[str], malformed: MalformedRows, selection: Selection) -> None:
        """Start without rows.

        Args:
            form: Format of the file.
            columns: Columns of the file.
            malformed: Policy for malformed rows.
            selection: Limits on the rows.
        """
        self._columns = form.columns_by_role(columns)
        self._values = ValueReader(form, self._columns, selection.output_tokens)
        self._malformed = malformed
        self._selection = selection
        self._parts: dict[str, list[Any]] = defaultdict(list)
        self._left_out: dict[str, int] = {}  # number of the first turn that was left out, by session
        self._num_rows = self._num_seen = self._num_too_long = 0
        self._num_in_file = self._num_after = 0
        self._goes_on = self._window_has_more = False

    def add(self, rows: Rows) -> bool:
        """Add the selected ones of some rows.

        Returns:
            Whether more rows are needed.

        Raises:
            ValueError: A row is malformed, and malformed rows are not skipped.
        """
        self._num_in_file += len(rows.numbers) + len(rows.unparsable)
        check = Check(rows)
        values = self._values.read(rows, check)
        blocks = self._values.read_blocks(rows, check, values) if self._values.has_blocks else None
        good = check.keep.copy()
        keep, end = self._select(values, check.keep)
        self._num_seen += len(keep) if end is None else end
        if end is not None:
            last = int(rows.numbers[end - 1]) if end else 0
            self._num_after = len(keep) - end + sum(number > last for number, _ in rows.unparsable)
        count, first = check.count_malformed(end)
        if first is not None:
            self._malformed.reject(count, *first)
        if self._selection.max_total_tokens is not None:
            self._num_too_long += int(np.count_nonzero((good & ~self._fits(values))[:end]))
        self._store(rows, values, keep, end)
        if blocks is not None:
            self._store_blocks(*blocks, keep)
        self._num_rows += int(np.count_nonzero(keep))
        return end is None

    def stop(self, goes_on: bool) -> None:
        """Stop before the end of the file.

        Args:
            goes_on: Whether it has more rows than those added.
        """
        self._goes_on = goes_on

    def trace(self) -> Trace:
        """Return the collected requests.

        Raises:
            ValueError: There are none, or two have the same identifier.
        """
        if self._num_rows == 0:
            num_seen = max(self._num_seen, self._malformed.count)
            reasons = "".join(f"; {note.text}" for note in (*self._malformed.notes, *self._notes(0, 0)))
            raise ValueError(f"no request is left of {num_seen:,} rows{reasons}" if num_seen else "no requests")
        parts = {name: self._join(name) for name in list(self._parts)}
        good = self._has_all_turns_before(parts)
        num_orphans = int(np.count_nonzero(~good))
        if "request_id" in parts:
            good &= self._reject_repeated_ids(parts, good)
        num_defaults = int(parts["has_default"][good].sum()) if "has_default" in parts else 0
        trace = self._build_trace(parts, good)
        notes = self._notes(num_orphans, num_defaults)
        return replace(trace, num_skipped=self._malformed.count, notes=(*self._malformed.notes, *notes))

    def _fits(self, values: dict[str, Floats]) -> Bools:
        longest = self._selection.max_total_tokens
        return np.asarray(values["prompt_tokens"] + values["output_tokens"] <= (longest or np.inf))

    def _select(self, values: dict[str, Floats], good: Bools) -> tuple[Bools, int | None]:
        """Select rows.

        Returns:
            bool[num_rows], the selected rows, and the index after the last row that is needed; None: later rows are
            needed too.
        """
        selection, more = self._selection, True
        keep = good & self._fits(values)
        if selection.is_window:
            arrival_s = values.get("arrival_s", np.full(len(keep), np.nan))
            if np.isnan(arrival_s[keep]).any():
                raise ValueError("start_s and duration_s need arrival times in every row")
            if not self._values.is_sorted:
                raise ValueError("start_s and duration_s need rows in order of arrival; sort the file first")
            in_window = arrival_s >= selection.start_s
            if selection.duration_s is not None:
                more = not bool(np.any(keep & (arrival_s >= selection.start_s + selection.duration_s)))
                in_window &= arrival_s < selection.start_s + selection.duration_s
            keep &= in_window
            values["arrival_s"] = arrival_s - selection.start_s
        if selection.num_requests is not None:
            num_left = selection.num_requests - self._num_rows
            self._window_has_more |= selection.is_window and int(np.count_nonzero(keep)) > num_left
            keep &= np.cumsum(keep) <= num_left
            more = more and int(np.count_nonzero(keep)) < num_left
        if more:
            return keep, None
        return keep, int(np.flatnonzero(keep)[-1]) + 1 if keep.any() else 0

    def _store(self, rows: Rows, values: dict[str, Floats], keep: Bools, end: int | None) -> None:
        for name, array in values.items():
            self._parts[name].append(array[keep].astype(np.float64 if name.endswith("_s") else np.int64))
        mask = pa.array(keep)
        for role in (role for role in _STRING_ROLES if role in self._columns):
            column = to_strings(rows.columns[self._columns[role]])
            if role == "request_id":
                self._parts[role].append(to_identifiers(column.filter(mask)))
            else:
                self._parts[role].append(column.filter(mask))
            if role == "session" and "think_s" in values and not keep[:end].all():
                for row in np.flatnonzero(~keep[:end]).tolist():
                    self._left_out.setdefault(column[row].as_py(), int(rows.numbers[row]))
        if "request_id" in self._columns or "think_s" in values:
            self._parts["number"].append(rows.numbers[keep])

    def _store_blocks(self, ids: NDArray[np.int64], counts: NDArray[np.int64], keep: Bools) -> None:
        kept = ids if keep.all() else ids[np.repeat(keep, counts)]
        # Block ids take most of the memory of such a trace, and few traces have larger ids.
        is_small = len(kept) == 0 or (kept.min() >= 0 and kept.max() < LARGEST)
        self._parts["block_ids"].append(kept.astype(np.int32) if is_small else kept.copy())
        self._parts["num_blocks"].append(counts[keep])

    def _join(self, name: str) -> Any:
        parts = self._parts.pop(name)
        if name == "request_id":
            return join_identifiers(parts)
        return pa.chunked_array(parts, pa.string()) if name in _STRING_ROLES else np.concatenate(parts)

    def _has_all_turns_before(self, parts: dict[str, Any]) -> Bools:
        """Mark the turns that wait for a turn that was left out.

        Returns:
            bool[num_rows], False for such turns.
        """
        good = np.ones(self._num_rows, dtype=bool)
        self._left_out.pop(None, None)  # type: ignore[call-overload]
        if self._left_out and "session" in parts:
            numbers = parts["number"].tolist()
            for row, session in enumerate(parts["session"].to_pylist()):
                left_out = self._left_out.get(session)
                good[row] = left_out is None or numbers[row] < left_out or np.isnan(parts["think_s"][row])
        return good

    def _reject_repeated_ids(self, parts: dict[str, Any], good: Bools) -> Bools:
        """Reject good rows whose identifier is missing or repeated.

        Returns:
            bool[num_rows], the first row with each identifier.
        """
        ids, column = parts["request_id"], self._columns["request_id"]
        unique = is_first(ids)
        for row in np.flatnonzero(good & ~unique).tolist():
            self._malformed.reject(
                1, int(parts["number"][row]), f"{column} must be unique and not empty, got {ids[row]!r}"
            )
        return unique

    def _build_trace(self, parts: dict[str, Any], good: Bools) -> Trace:
        if not good.all():
            parts = _take(parts, np.flatnonzero(good))
        if not self._values.is_sorted:
            parts = _in_order_of_arrival(parts)
        if self._values.is_shifted and not self._selection.is_window and not np.isnan(parts["arrival_s"]).all():
            parts["arrival_s"] = parts["arrival_s"] - np.nanmin(parts["arrival_s"])
        session = None
        if "session" in parts:
            session = encode(parts["session"])[0]
        elif "parent" in parts:
            session = sessions_by_parent(parts["request_id"], parts["parent"])
        clients, client = encode_clients(parts["client"]) if "client" in parts else ((), None)
        prefix = None
        if "block_ids" in parts:
            prefix = PrefixBlocks.of_lengths(parts["block_ids"], parts["num_blocks"], self._values.block_tokens)
        return Trace(
            parts["prompt_tokens"],
            parts["output_tokens"],
            arrival_s=parts.get("arrival_s"),
            think_s=parts.get("think_s"),
            request_id=parts.get("request_id"),
            session=session,
            client=client,
            clients=clients,
            priority=parts.get("priority"),
            prefix=prefix,
        )

    def _notes(self, num_orphans: int, num_defaults: int) -> Iterator[Warning]:
        selection, values = self._selection, self._values
        if self._num_too_long:
            limit = f"max_total_tokens={selection.max_total_tokens}"
            text = f"{self._num_too_long:,} requests longer than {limit} were left out"
            yield Warning("requests_left_out", text)
        if num_orphans:
            text = f"{num_orphans:,} turns were left out because an earlier turn of their session was"
            yield Warning("turns_left_out", text)
        if self._window_has_more:
            text = f"the time window has more than num_requests={selection.num_requests} requests"
            yield Warning("window_full", text)
        elif not selection.is_window and (self._goes_on or self._num_after):
            count = f"more than {self._num_in_file:,}" if self._goes_on else f"{self._num_in_file:,}"
            text = f"first {self._num_rows:,} of {count} rows; trace.num_requests=null takes all"
            yield Warning("rows_left_out", text)
        if num_defaults:
            length = f"trace.output_tokens={selection.output_tokens}"
            text = f"{num_defaults:,} requests have no output length of their own but {length}"
            yield Warning("default_outputs", text)
        if values.origin_s >= LATEST_START_S:
            text = f"times were shifted: {values.origin_s:,.12g} s in the file, its first row, became 0, and "
            yield Warning("times_shifted", f"{text}trace.start_s counts from there")
        if not values.is_sorted:
            yield Warning("rows_sorted", "rows were not in order of arrival and were sorted")


def _in_order_of_arrival(parts: dict[str, Any]) -> dict[str, Any]:
    """Sort the rows by arrival.

    A row that waits stays behind all rows above it.

    Raises:
        ValueError: That changes the order of the turns in a session with turns that wait.
    """
    arrival_s = parts["arrival_s"]
    waits = np.isnan(arrival_s)
    order = np.argsort(np.where(waits, np.fmax.accumulate(arrival_s), arrival_s), kind="stable")
    if waits.any() and "session" in parts:
        session = encode(parts["session"])[0]
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        rows = np.flatnonzero(np.isin(session, session[waits]) & (session >= 0))
        rows = rows[np.argsort(session[rows], kind="stable")]
        turned = (np.diff(place[rows]) < 0) & (np.diff(session[rows]) == 0)
        if turned.any():
            name = parts["session"][int(rows[int(np.argmax(turned))])].as_py()
            raise ValueError(f"session {name} has turns that wait, so its rows must be in order of arrival")
    return _take(parts, order)


def _take(parts: dict[str, Any], rows: NDArray[np.int64]) -> dict[str, Any]:
    """Return some rows of the values by role."""
    index = pa.array(rows)
    taken = {
        name: values.take(index) if isinstance(values, pa.ChunkedArray) else values[rows]
        for name, values in parts.items()
        if name not in ("block_ids", "num_blocks")
    }
    if "block_ids" in parts:
        blocks = PrefixBlocks.of_lengths(parts["block_ids"], parts["num_blocks"]).take(rows)
        taken |= {"block_ids": blocks.ids, "num_blocks": np.diff(blocks.starts)}
    return taken
