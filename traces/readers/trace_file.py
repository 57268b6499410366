"""Requests from a file of any known format."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from traces.arrivals import find_sessions
from traces.readers.collector import Collector, Selection
from traces.readers.content import opened, reader_of
from traces.readers.formats import expected, recognise
from traces.readers.rows import Malformed, OnError
from traces.readers.tokenizer import token_counter
from traces.shared.value_checks import is_finite
from traces.trace import Trace


@dataclass(frozen=True)
class TraceFile:
    """Requests of a file, plain or gzip, in a format that its content tells.

    CSV, JSON lines and Parquet with the columns of our own (prompt_tokens, output_tokens and optionally
    arrival_s, think_s, request_id, session, client, priority, block_ids, block_tokens) or those of Azure's LLM
    inference traces, BurstGPT, Mooncake (also with session_id and delay), Bailian, Splitwise and Vidur; a JSON array
    of conversations as ShareGPT's; a detailed result of `vllm bench serve`. Other columns are not read. Columns and
    units: docs/workloads.md.

    Attributes:
        path: The file.
        num_requests: Good rows to read at most, from the first; None: all.
        on_error: What to do with a malformed row: "error" refuses the file, "skip" counts and reports it.
        max_total_tokens: Longest prompt and output together, longer ones are left out; None: any.
        start_s: Requests that arrive earlier are left out, and the trace begins there.
        duration_s: Seconds from `start_s` on; None: to the end.
        find_sessions: Make sessions of requests that go on from earlier ones, see
            `traces.arrivals.find_sessions`.
        tokenizer: A tokenizer.json of Hugging Face, for files that hold texts.
    """

    path: str
    num_requests: int | None = None
    on_error: OnError = "error"
    max_total_tokens: int | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    find_sessions: bool = False
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not isinstance(self.path, str):
            raise ValueError(f"path must name a file, got {self.path!r}")
        for name, least in (("num_requests", 1), ("max_total_tokens", 2)):
            count = getattr(self, name)
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < least):
                raise ValueError(f"{name} must be an integer of at least {least} or null, got {count!r}")
        if self.on_error not in ("error", "skip"):
            raise ValueError(f"on_error must be error or skip, got {self.on_error!r}")
        if not is_finite(self.start_s) or self.start_s < 0:
            raise ValueError(f"start_s must be a finite number of at least 0, got {self.start_s!r}")
        if self.duration_s is not None and (not is_finite(self.duration_s) or self.duration_s <= 0):
            raise ValueError(f"duration_s must be a finite number above 0 or null, got {self.duration_s!r}")
        if not isinstance(self.find_sessions, bool):
            raise ValueError(f"find_sessions must be true or false, got {self.find_sessions!r}")
        if self.tokenizer is not None and not isinstance(self.tokenizer, str):
            raise ValueError(f"tokenizer must be the path of a tokenizer.json or null, got {self.tokenizer!r}")

    def load(self, rng: np.random.Generator) -> Trace:
        """Read the requests.

        Raises:
            ValueError: The file cannot be read or a row is malformed; with file and line.
        """
        try:
            trace = self._collected()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in reason:
                reason = "it is no text in UTF-8, nor of another kind that is known"
            raise ValueError(f"path: cannot read {self.path}: {reason}") from error
        if not self.find_sessions:
            return trace
        if trace.session is not None:
            raise ValueError(f"find_sessions=true is for files without sessions, and {self.path} has them")
        return replace(trace, session=find_sessions(trace))

    def _collected(self) -> Trace:
        read, unit = reader_of(self.path, token_counter(self.tokenizer))
        malformed = Malformed(self.path, self.on_error, unit)
        selection = Selection(self.num_requests, self.max_total_tokens, float(self.start_s), self.duration_s)
        collectors: list[Collector] = []

        def needed(columns: Sequence[str]) -> list[str]:
            form = recognise(columns)
            if form is None:
                raise ValueError(f"needs columns of one of these names: {expected()}; it has: {', '.join(columns)}")
            if not collectors:
                collectors.append(Collector(form, list(columns), malformed, selection))
            return list(form.found_in(columns).values())

        try:
            with opened(self.path) as file:
                for rows in read(file, needed):
                    if not collectors[0].add(rows):
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
