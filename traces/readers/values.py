"""Conversion and validation of the values of rows."""

import numpy as np
from numpy.typing import NDArray

from traces.readers.clocks import Clock, clock_of
from traces.readers.columns import parse_block_lists, to_floats, to_strings
from traces.readers.formats import Format
from traces.readers.rows import Bools, Check, Rows
from traces.readers.token_blocks import TokenBlocks
from traces.trace import LARGEST_PRIORITY

Floats = NDArray[np.float64]
LARGEST = 2**31


class ValueReader:
    """Reader of the values of a file, part after part.

    Attributes:
        columns: Columns of the file by role.
        block_tokens: Tokens per prefix block; None: unknown so far.
        is_sorted: Whether arrivals have not decreased so far.
    """

    def __init__(self, form: Format, columns: dict[str, str], output_tokens: int | None = None) -> None:
        """Start at the first part of a file.

        Args:
            form: Format of the file.
            columns: Columns of the file by role.
            output_tokens: Output tokens of requests without a length of their own; None: they are malformed.
        """
        self.columns = columns
        self.block_tokens = form.block_tokens
        self.is_sorted = True
        self._form = form
        self._output_tokens = output_tokens
        self._clock: Clock | None = None
        self._last_s = -np.inf
        self._token_blocks = TokenBlocks(form.block_tokens) if form.block_tokens else None

    def read(self, rows: Rows, check: Check) -> dict[str, Floats]:
        """Return lengths, times and priorities by role: float64[num_rows].

        If there is a default of the output length, `has_default` marks the rows that have it. Malformed rows, which
        `check` drops, have arbitrary values.
        """
        values = {
            "prompt_tokens": self._read_lengths(rows, "prompt_tokens", check, None),
            "output_tokens": self._read_lengths(rows, "output_tokens", check, self._output_tokens),
        }
        if self._output_tokens is not None:
            values["has_default"] = self._is_missing(rows, "output_tokens").astype(np.float64)
        if "think_s" in self.columns:
            values["think_s"] = self._read_think_times(rows, check)
        if "arrival_s" in self.columns:
            values |= self._read_times(rows, check, values.get("think_s"))
        if "priority" in self.columns:
            values["priority"] = self._read_priorities(rows, check)
        return values

    @property
    def is_shifted(self) -> bool:
        """Whether time 0 is the first request."""
        return self._clock is not None and self._clock.is_shifted

    @property
    def origin_s(self) -> float:
        """Number in the file that became time 0, seconds; 0 for dates."""
        return 0.0 if self._clock is None else self._clock.origin_s

    @property
    def has_blocks(self) -> bool:
        """Whether the file says what prompts share."""
        return "block_ids" in self.columns or "prompt_token_ids" in self.columns

    def read_blocks(
        self, rows: Rows, check: Check, lengths: dict[str, Floats]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the prefix blocks of rows.

        Args:
            rows: The rows.
            check: Drops malformed rows.
            lengths: Prompt and output tokens by role.

        Returns:
            int64[num_blocks] block ids, row after row, and int64[num_rows] number of blocks of each row.
        """
        if "block_ids" not in self.columns:
            return self._read_tokens(rows, check, lengths)
        column = self.columns["block_ids"]
        ids, counts, good = parse_block_lists(rows.columns[column])
        check.require(good, column, "must be a list of block numbers")
        size_column = self.columns.get("block_tokens")
        if size_column is not None:
            sizes = to_floats(rows.columns[size_column])
            valid = sizes[check.keep & (sizes >= 1) & (sizes == np.floor(sizes))]
            if self.block_tokens is None and len(valid):
                self.block_tokens = int(valid[0])
            rule = "must be an integer of at least 1, the same in each row"
            check.require(sizes == (self.block_tokens or -1), size_column, rule)
        if self.block_tokens is not None:
            prompt, output = lengths["prompt_tokens"], lengths["output_tokens"]
            most = np.maximum(np.ceil(prompt / self.block_tokens), (prompt + output) // self.block_tokens)
            rule = f"must not have more blocks of {self.block_tokens} tokens than the request has tokens for"
            check.require(counts <= most, column, rule)
        return ids, counts

    def _read_tokens(
        self, rows: Rows, check: Check, lengths: dict[str, Floats]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the full blocks of all known tokens, see `read_blocks`."""
        assert self._token_blocks is not None
        tokens = []
        for role, length in (("prompt_token_ids", "prompt_tokens"), ("output_token_ids", "output_tokens")):
            if role not in self.columns:
                break
            column = self.columns[role]
            ids, counts, good = parse_block_lists(rows.columns[column])
            good &= (counts == lengths[length]) | (counts == 0)
            check.require(good, column, "must be empty or a list of as many tokens as the request has")
            tokens.append(np.split(ids, np.cumsum(counts)[:-1]) if len(counts) else [])
        return self._token_blocks.number(tokens, check.keep)

    def _read_lengths(self, rows: Rows, role: str, check: Check, default: int | None) -> Floats:
        if role not in self.columns:
            assert default is not None
            return np.full(len(rows.numbers), float(default))
        column = self.columns[role]
        lengths = to_floats(rows.columns[column])
        if default is not None:
            lengths = np.where(self._is_missing(rows, role), default, lengths)
        with np.errstate(invalid="ignore"):
            good = (lengths >= 1) & (lengths < LARGEST) & (lengths == np.floor(lengths))
        check.require(good, column, "must be an integer of at least 1 and below 2^31")
        return np.where(good, lengths, 1.0)

    def _read_priorities(self, rows: Rows, check: Check) -> Floats:
        column = self.columns["priority"]
        priorities = to_floats(rows.columns[column])
        with np.errstate(invalid="ignore"):
            good = (np.abs(priorities) <= LARGEST_PRIORITY) & (priorities == np.floor(priorities))
        rule = "must be an integer from -2^53 to 2^53, or empty"
        check.require(good | self._is_missing(rows, "priority"), column, rule)
        return np.where(good, priorities, 0.0)

    def _read_think_times(self, rows: Rows, check: Check) -> Floats:
        column = self.columns["think_s"]
        think_s = to_floats(rows.columns[column]) / self._form.unit_of("think_s", column)
        good = self._is_missing(rows, "think_s") | (np.isfinite(think_s) & (think_s >= 0))
        check.require(good, column, "must be a finite number of at least 0, or empty")
        return np.where(good, think_s, np.nan)

    def _read_times(self, rows: Rows, check: Check, think_s: Floats | None) -> dict[str, Floats]:
        """Return arrival and think times by role: float64[num_rows].

        Rows without an arrival time have a think time; where a row has one of them, the other is NaN.
        """
        column = self.columns["arrival_s"]
        waits = np.zeros(len(rows.numbers), dtype=bool)
        if think_s is not None:
            waits = self._is_missing(rows, "arrival_s") & ~np.isnan(think_s)
        is_used = check.keep & ~waits
        unit = self._form.unit_of("arrival_s", column)
        clock = self._clock or clock_of(rows.columns[column], is_used, unit, is_shifted=self._form.starts_at_zero)
        if is_used.any():
            self._clock = clock
        arrival_s, good = clock.read(rows.columns[column], is_used)
        check.require(good | waits, column, clock.rule)
        known_s = arrival_s[check.keep & ~waits]
        if len(known_s):
            self.is_sorted &= bool(known_s[0] >= self._last_s and (np.diff(known_s) >= 0).all())
            self._last_s = float(known_s[-1])
        times = {"arrival_s": np.where(waits, np.nan, arrival_s)}
        return times if think_s is None else times | {"think_s": np.where(waits, think_s, np.nan)}

    def _is_missing(self, rows: Rows, role: str) -> Bools:
        if role not in self.columns:
            return np.ones(len(rows.numbers), dtype=bool)
        return np.asarray(to_strings(rows.columns[self.columns[role]]).is_null().to_numpy(zero_copy_only=False))
