"""Requests of a file in any known format."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from traces.arrivals import find_sessions
from traces.readers.collector import Collector, Selection
from traces.readers.content import detect_reader, open_decompressed
from traces.readers.formats import ROLES, recognise
from traces.readers.rows import MalformedRows, OnError, Rows
from traces.readers.tokenizer import token_counter
from traces.shared.value_checks import choice, each, flag, integer, mapping, number, text
from traces.trace import Trace


@dataclass(frozen=True)
class TraceFile:
    """Requests of a file, whose format is detected from its content.

    Formats: CSV, JSON lines and Parquet with the simulator's own columns (prompt_tokens, output_tokens and optionally
    arrival_s, think_s, request_id, session, client, priority, block_ids, block_tokens) or those of Azure's LLM
    inference traces, BurstGPT, Mooncake (also with session_id and delay), Bailian, Splitwise, Vidur, AIPerf's records
    and LLMServingSim; a JSON array or JSON lines of conversations like ShareGPT and LMSYS-Chat; a detailed result of
    `vllm bench serve`. Other columns are ignored. Requests are sorted by arrival. If the file
    has dates, times since 1970, or any that begin late, the first arrives at 0. See docs/workloads.md for columns and
    units.

    Attributes:
        path: The file, plain or gzip.
        num_requests: Maximum number of valid rows to read, from the first; None: all.
        on_error: What to do with a malformed row: "error" refuses the file, "skip" skips, counts and reports it.
        max_total_tokens: Longest prompt and output together; longer requests are left out. None: no limit.
        start_s: Start of the time window, seconds; earlier requests are left out, and time 0 of the trace is here.
        duration_s: Length of the time window, seconds; None: to the end of the file.
        find_sessions: Whether to infer sessions, see `traces.arrivals.find_sessions`.
        tokenizer: A Hugging Face tokenizer.json, for files that contain text.
        columns: Names of the file's columns by the simulator's, such as {"arrival_s": "started"}, for other formats;
            `a.b` is key b of an object a, and None means that the file has none.
        output_tokens: Output tokens of requests for which the file has none; None: it must have them.
    """

    path: str
    num_requests: int | None = None
    on_error: OnError = "error"
    max_total_tokens: int | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    find_sessions: bool = False
    tokenizer: str | None = None
    columns: Mapping[str, str | None] | None = None
    output_tokens: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        text("path", self.path, "the path of a file")
        each(integer, self, ("num_requests", "output_tokens"), 1, optional=True)
        integer("max_total_tokens", self.max_total_tokens, 2, optional=True)
        choice("on_error", self.on_error, ("error", "skip"))
        number("start_s", self.start_s, 0)
        number("duration_s", self.duration_s, 0, excluding="low", optional=True)
        flag("find_sessions", self.find_sessions)
        text("tokenizer", self.tokenizer, "the path of a tokenizer.json", optional=True)
        column = partial(text, what="the name of a column of the file", optional=True)
        mapping("columns", self.columns, "{NAME: COLUMN, ...}", column, optional=True)
        for role in self.columns or {}:
            if role not in ROLES:
                raise ValueError(f"columns.{role} is not a column of the simulator; allowed are: {', '.join(ROLES)}")

    def load(self, rng: np.random.Generator) -> Trace:
        """Read the requests.

        Raises:
            ValueError: The file cannot be read, or a row is malformed; the message names file and line.
        """
        try:
            trace = self._read()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in reason:
                reason = "it is neither UTF-8 text nor of another known format"
            raise ValueError(f"path: cannot read {self.path}: {reason}") from error
        if not self.find_sessions:
            return trace
        if trace.session is not None:
            raise ValueError(f"find_sessions=true is for files without sessions, but {self.path} has them")
        return replace(trace, session=find_sessions(trace))

    def _read(self) -> Trace:
        given, no_outputs = self.columns or {}, self.output_tokens is not None
        read, unit = detect_reader(self.path, token_counter(self.tokenizer), given, without_outputs=no_outputs)
        malformed = MalformedRows(self.path, self.on_error, unit)
        selection = Selection(
            self.num_requests, self.max_total_tokens, float(self.start_s), self.duration_s, self.output_tokens
        )
        collectors: list[Collector] = []

        def choose_columns(columns: Sequence[str]) -> list[str]:
            form = recognise(columns, given, without_outputs=no_outputs)
            if not collectors:
                collectors.append(Collector(form, list(columns), malformed, selection))
            return list(form.columns_by_role(columns).values())

        try:
            with open_decompressed(self.path) as file:
                parts = read(file, choose_columns)
                for rows in parts:
                    if not collectors[0].add(rows):
                        collectors[0].stop(goes_on=_has_rows(parts))
                        break
            if not collectors:
                raise ValueError("no requests")
            return collectors[0].trace()
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            message = str(error)
            if message.startswith(("path: ", "tokenizer")) or isinstance(error, pa.ArrowException):
                raise
            raise ValueError(f"path: {self.path}: {message}") from error


def _has_rows(parts: Iterator[Rows]) -> bool:
    """Return whether a file goes on.

    Rows that are not needed may be malformed.
    """
    try:
        return any(len(rows.numbers) or rows.unparsable for rows in parts)
    except (OSError, EOFError, zlib.error, ValueError, pa.ArrowException):
        return True
