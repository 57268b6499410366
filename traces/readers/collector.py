"""Collects the rows of a file that are good and wanted to a trace."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traces.readers.columns import codes, identifiers, texts
from traces.readers.formats import Format
from traces.readers.identities import client_classes, is_first, joined, sessions_of_parents
from traces.readers.rows import Bools, Check, Malformed, Rows
from traces.readers.values import LARGEST, Floats, Values
from traces.trace import PrefixBlocks, Trace

_TEXTS = ("request_id", "session", "parent", "client")


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
        self._columns = form.found_in(columns)
        self._values = Values(form, self._columns)
        self._malformed = malformed
        self._selection = selection
        self._parts: dict[str, list[Any]] = defaultdict(list)
        self._lost: dict[str, int] = {}  # sessions without a turn that was left out, and its place
        self._num_rows = self._num_seen = self._num_longer = 0
        self._is_cut = False

    def add(self, rows: Rows) -> bool:
        """Take some rows.

        Returns:
            Whether more are wanted.

        Raises:
            ValueError: A row is malformed, and such rows are not skipped.
        """
        check = Check(rows)
        blocks = self._values.blocks(rows, check) if "block_ids" in self._columns else None
        values = self._values.read(rows, check)
        good = check.keep.copy()
        keep, end = self._select(values, check.keep)
        self._num_seen += len(keep) if end is None else end
        count, first = check.found(end)
        if first is not None:
            self._malformed.reject(count, *first)
        if self._selection.max_total_tokens is not None:
            self._num_longer += int(np.count_nonzero((good & ~self._fits(values))[:end]))
        self._store(rows, values, keep, end)
        if blocks is not None:
            self._store_blocks(*blocks, keep)
        self._num_rows += int(np.count_nonzero(keep))
        return end is None

    def trace(self) -> Trace:
        """Return what was collected.

        Raises:
            ValueError: That is nothing, or an identifier occurs twice.
        """
        if self._num_rows == 0:
            seen = max(self._num_seen, self._malformed.count)
            why = "".join(f"; {note}" for note in (*self._malformed.notes, *self._notes(0)))
            raise ValueError(f"no request is left of {seen:,} rows{why}" if seen else "no requests")
        parts = {name: self._joined(name) for name in list(self._parts)}
        good = self._with_all_turns_before(parts)
        num_orphans = int(np.count_nonzero(~good))
        if "request_id" in parts:
            good &= self._unique(parts, good)
        trace = self._assembled(parts, good)
        notes = self._notes(num_orphans)
        return replace(trace, num_skipped=self._malformed.count, notes=(*self._malformed.notes, *notes))

    def _fits(self, values: dict[str, Floats]) -> Bools:
        longest = self._selection.max_total_tokens
        return np.asarray(values["prompt_tokens"] + values["output_tokens"] <= (longest or np.inf))

    def _select(self, values: dict[str, Floats], good: Bools) -> tuple[Bools, int | None]:
        """Return the rows that are wanted, and the row behind the last of them if no later ones are; None: they are."""
        wanted, more = self._selection, True
        keep = good & self._fits(values)
        if wanted.is_window:
            arrival_s = values.get("arrival_s", np.full(len(keep), np.nan))
            if np.isnan(arrival_s[keep]).any():
                raise ValueError("start_s and duration_s need arrival times in every row")
            within = arrival_s >= wanted.start_s
            if wanted.duration_s is not None:
                more = not bool(np.any(keep & (arrival_s >= wanted.start_s + wanted.duration_s)))
                within &= arrival_s < wanted.start_s + wanted.duration_s
            keep &= within
            values["arrival_s"] = arrival_s - wanted.start_s
        if wanted.num_requests is not None:
            left = wanted.num_requests - self._num_rows
            self._is_cut |= wanted.is_window and int(np.count_nonzero(keep)) > left
            keep &= np.cumsum(keep) <= left
            more = more and int(np.count_nonzero(keep)) < left
        if more:
            return keep, None
        return keep, int(np.flatnonzero(keep)[-1]) + 1 if keep.any() else 0

    def _store(self, rows: Rows, values: dict[str, Floats], keep: Bools, end: int | None) -> None:
        for name, one in values.items():
            self._parts[name].append(one[keep].astype(np.float64 if name.endswith("_s") else np.int64))
        mask = pa.array(keep)
        for role in (role for role in _TEXTS if role in self._columns):
            column = texts(rows.columns[self._columns[role]])
            if role == "request_id":
                self._parts[role].append(identifiers(column.filter(mask)))
            else:
                self._parts[role].append(column.filter(mask))
            if role == "session" and "think_s" in values and not keep[:end].all():
                for row in np.flatnonzero(~keep[:end]).tolist():
                    self._lost.setdefault(column[row].as_py(), int(rows.places[row]))
        if "request_id" in self._columns or "think_s" in values:
            self._parts["place"].append(rows.places[keep])

    def _store_blocks(self, ids: NDArray[np.int64], counts: NDArray[np.int64], keep: Bools) -> None:
        kept = ids if keep.all() else ids[np.repeat(keep, counts)]
        # Most of the memory of a trace with prefixes, and few have numbers beyond this.
        small = len(kept) == 0 or (kept.min() >= 0 and kept.max() < LARGEST)
        self._parts["block_ids"].append(kept.astype(np.int32) if small else kept.copy())
        self._parts["num_blocks"].append(counts[keep])

    def _joined(self, name: str) -> Any:
        parts = self._parts.pop(name)
        if name == "request_id":
            return joined(parts)
        return pa.chunked_array(parts, pa.string()) if name in _TEXTS else np.concatenate(parts)

    def _with_all_turns_before(self, parts: dict[str, Any]) -> Bools:
        """Whether each row is no turn that waits for one that was left out: bool[num_rows]."""
        good = np.ones(self._num_rows, dtype=bool)
        self._lost.pop(None, None)  # type: ignore[call-overload]
        if self._lost and "session" in parts:
            places = parts["place"].tolist()
            for row, session in enumerate(parts["session"].to_pylist()):
                lost = self._lost.get(session)
                good[row] = lost is None or places[row] < lost or np.isnan(parts["think_s"][row])
        return good

    def _unique(self, parts: dict[str, Any], good: Bools) -> Bools:
        ids, column = parts["request_id"], self._columns["request_id"]
        unique = is_first(ids)
        for row in np.flatnonzero(good & ~unique).tolist():
            self._malformed.reject(
                1, int(parts["place"][row]), f"{column} must be unique and not empty, got {ids[row]!r}"
            )
        return unique

    def _assembled(self, parts: dict[str, Any], good: Bools) -> Trace:
        if not good.all():
            mask = pa.array(good)
            blocks = PrefixBlocks.of_lengths(parts["block_ids"], parts["num_blocks"]) if "block_ids" in parts else None
            parts = {
                name: one.filter(mask) if isinstance(one, pa.ChunkedArray) else one[good]
                for name, one in parts.items()
                if name not in ("block_ids", "num_blocks")
            }
            if blocks is not None:
                taken = blocks.take(good)
                parts |= {"block_ids": taken.ids, "num_blocks": np.diff(taken.starts)}
        session = None
        if "session" in parts:
            session = codes(parts["session"])[0]
        elif "parent" in parts:
            session = sessions_of_parents(parts["request_id"], parts["parent"])
        clients, client = client_classes(parts["client"]) if "client" in parts else ((), None)
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

    def _notes(self, num_orphans: int) -> list[str]:
        wanted, notes = self._selection, []
        if self._num_longer:
            notes.append(
                f"{self._num_longer:,} requests longer than max_total_tokens={wanted.max_total_tokens} were left out"
            )
        if num_orphans:
            notes.append(f"{num_orphans:,} turns were left out because a turn before them was")
        if self._is_cut:
            notes.append(f"the time that was asked for holds more than num_requests={wanted.num_requests}")
        return notes
