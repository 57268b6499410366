"""Requests drawn from a file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from traces.generators.synthetic import require_count
from traces.readers import OnError, TraceFile
from traces.trace import Trace


@dataclass(frozen=True)
class Empirical:
    """Rows of a file, drawn with replacement.

    Prompt, output, client class and priority of a row stay together. Arrival times, think times, request ids, sessions
    and prefix blocks are dropped, as they depend on other rows.

    Attributes:
        path: A file in any format that `TraceFile` reads.
        num_requests: Requests to draw.
        max_total_tokens: Longest prompt and output together; longer rows are not drawn. None: no limit.
        on_error: What to do with a malformed row: "error" or "skip", see `TraceFile`.
        tokenizer: A Hugging Face tokenizer.json, for files that contain text.
        columns: Names of the file's columns, see `TraceFile`.
        output_tokens: Output tokens of requests for which the file has none; None: it must have them.
    """

    path: str
    num_requests: int = 512
    max_total_tokens: int | None = None
    on_error: OnError = "error"
    tokenizer: str | None = None
    columns: Mapping[str, str | None] | None = None
    output_tokens: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_count("num_requests", self.num_requests)
        self._file()

    def _file(self) -> TraceFile:
        return TraceFile(
            self.path,
            on_error=self.on_error,
            max_total_tokens=self.max_total_tokens,
            tokenizer=self.tokenizer,
            columns=self.columns,
            output_tokens=self.output_tokens,
        )

    def load(self, rng: np.random.Generator) -> Trace:
        """Draw the requests.

        Raises:
            ValueError: The file cannot be read or a row is malformed.
        """
        population = replace(
            self._file().load(rng), arrival_s=None, think_s=None, request_id=None, session=None, prefix=None
        )
        return population.take(rng.integers(len(population), size=self.num_requests))
