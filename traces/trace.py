"""A workload as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64] | NDArray[np.bool_]
# Whole numbers up to here are exact as float64, in which files are read.
LARGEST_PRIORITY = 2**53


def joined_ranges(first: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int32] | NDArray[np.int64]:
    """Join ranges of numbers: int64[num_ranges] first of each and how many, none negative; int32 where all fit."""
    before = np.cumsum(counts) - counts
    most = max(int(counts.sum()), int((first + counts).max(initial=0)))
    dtype = np.int32 if most <= np.iinfo(np.int32).max else np.int64
    joined = np.arange(counts.sum(), dtype=dtype)
    joined += np.repeat((first - before).astype(dtype), counts)
    return joined


@dataclass(frozen=True)
class PrefixBlocks:
    """Which requests begin alike: blocks of tokens, equal ids where the tokens up to their end are equal.

    A request has the blocks of its prompt, of which the last may hold less than the others, or all full blocks of
    its prompt and output together.

    Attributes:
        ids: int32[num_blocks] or int64[num_blocks], request after request.
        starts: int64[num_requests + 1], where in `ids` the blocks of each request begin.
        block_tokens: Tokens of a block; None: those of the engine's KV block.
    """

    ids: NDArray[np.integer[Any]]
    starts: NDArray[np.int64]
    block_tokens: int | None = None

    @classmethod
    def of_lengths(
        cls, ids: NDArray[np.integer[Any]], num_blocks: NDArray[np.int64], block_tokens: int | None = None
    ) -> "PrefixBlocks":
        """Build it of the number of blocks of each request: int64[num_requests]."""
        return cls(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(num_blocks)]), block_tokens)

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.starts) - 1

    def of(self, request: int) -> NDArray[np.integer[Any]]:
        """Blocks of one request, its own number of them."""
        return self.ids[self.starts[request] : self.starts[request + 1]]

    def within(self, num_blocks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each block is one of the first so many of its request: bool[len(ids)] of int64[num_requests]."""
        counts = np.diff(self.starts)
        first = np.minimum(counts, num_blocks)
        return np.repeat(np.tile([True, False], len(counts)), np.column_stack([first, counts - first]).ravel())

    def renumbered(self, first: int = 0) -> "PrefixBlocks":
        """Return the same blocks with ids from a number on, without gaps."""
        return replace(self, ids=first + np.unique(self.ids, return_inverse=True)[1])

    def divided(self, block_tokens: int, prompt_tokens: NDArray[np.int64]) -> "PrefixBlocks":
        """Say the same with smaller blocks.

        Args:
            block_tokens: Tokens of a block; a whole number of them makes one of these.
            prompt_tokens: Of the requests.
        """
        size, num_before = self.block_tokens, np.diff(self.starts)
        if size is None or size % block_tokens:
            raise ValueError(f"blocks of {size} tokens cannot be divided into blocks of {block_tokens}")
        parts = size // block_tokens
        with_output = num_before > -(-prompt_tokens // size)
        counts = num_before * parts
        counts = np.where(with_output, counts, np.minimum(counts, -(-prompt_tokens // block_tokens)))
        place = joined_ranges(np.zeros_like(counts), counts)
        ids = self.renumbered().ids[np.repeat(self.starts[:-1], counts) + place // parts] * parts + place % parts
        return PrefixBlocks.of_lengths(ids, counts, block_tokens)

    def take(self, rows: Rows) -> "PrefixBlocks":
        """Return those of some requests, by index or as a mask."""
        counts, first = np.diff(self.starts)[rows], self.starts[:-1][rows]
        return PrefixBlocks.of_lengths(self.ids[joined_ranges(first, counts)], counts, self.block_tokens)


@dataclass(frozen=True)
class Client:
    """A class of clients.

    Attributes:
        name: Its name.
        slo: What it expects: bounds in seconds by METRIC_STATISTIC, such as tbt_p99; None: no bound.
    """

    name: str
    slo: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival.

    A request has an arrival time, or it waits: a later turn of a session for the answer to the turn before it, a
    first turn until any session has ended. It then arrives `think_s` later. Turns stand in order; what waits
    stands behind what it waits for.

    Attributes:
        prompt_tokens: int64[num_requests], at least 1 each.
        output_tokens: int64[num_requests], at least 1 each.
        arrival_s: float64[num_requests], not decreasing, from 0 on, NaN: waits; None if there are lengths only.
        request_id: strings or int64[num_requests], unique; None: the row numbers.
        session: int64[num_requests], equal for requests of one session, negative: in none; None: there are none.
        think_s: float64[num_requests], at least 0 where a request waits, else NaN; None: none waits.
        client: int64[num_requests], number of each request's class in `clients`; None: there are no classes.
        clients: Classes of clients.
        priority: int64[num_requests], smaller is served first by policies that heed priorities; None: all the same.
        prefix: Blocks of the prompts, and maybe of the outputs; None: unknown.
        num_skipped: Malformed rows of the file that were left out.
        notes: What to know about the requests, a sentence each.
    """

    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    arrival_s: NDArray[np.float64] | None = None
    request_id: NDArray[Any] | None = None
    session: NDArray[np.int64] | None = None
    think_s: NDArray[np.float64] | None = None
    client: NDArray[np.int64] | None = None
    clients: tuple[Client, ...] = ()
    priority: NDArray[np.int64] | None = None
    prefix: PrefixBlocks | None = None
    num_skipped: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check lengths and ranges."""
        for name in _BY_REQUEST:
            if isinstance(getattr(self, name), list | tuple):
                object.__setattr__(self, name, np.array(getattr(self, name)))
        num_requests = len(self.prompt_tokens)
        for name in _BY_REQUEST:
            values = getattr(self, name)
            if values is not None and len(values) != num_requests:
                raise ValueError(f"{name} has {len(values)} entries, prompt_tokens {num_requests}")
        if num_requests == 0:
            raise ValueError("a trace needs at least one request")
        for name in ("prompt_tokens", "output_tokens"):
            values = getattr(self, name)
            if not np.issubdtype(values.dtype, np.integer) or values.min() < 1:
                raise ValueError(f"{name} must be integers of at least 1")
        if self.client is not None and not (self.client.min() >= 0 and self.client.max() < len(self.clients)):
            raise ValueError(f"client must be numbers of the {len(self.clients)} clients")
        self._check_priorities()
        self._check_times()

    def _check_priorities(self) -> None:
        if self.priority is None:
            return
        whole = np.issubdtype(self.priority.dtype, np.integer)
        if not whole or self.priority.min() < -LARGEST_PRIORITY or self.priority.max() > LARGEST_PRIORITY:
            raise ValueError("priority must be integers from -2^53 to 2^53")

    def _check_times(self) -> None:
        if self.arrival_s is None:
            return
        known_s = self.arrival_s
        if self.think_s is not None:
            waits = np.isnan(known_s)
            if not np.array_equal(waits, ~np.isnan(self.think_s)):
                raise ValueError("each request needs either an arrival_s or a think_s")
            if not np.all(np.isfinite(self.think_s[waits]) & (self.think_s[waits] >= 0)):
                raise ValueError("think_s must be finite and at least 0")
            known_s = known_s[~waits]
        if not (np.all(np.isfinite(known_s) & (known_s >= 0)) and np.all(known_s[1:] >= known_s[:-1])):
            raise ValueError("arrival_s must be finite, at least 0 and not decreasing")

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.prompt_tokens)

    def take(self, rows: Rows) -> "Trace":
        """Return some of the requests, by index or as a mask."""
        values = {name: getattr(self, name) for name in _BY_REQUEST}
        taken: dict[str, Any] = {
            name: one.take(rows) if isinstance(one, PrefixBlocks) else one[rows]
            for name, one in values.items()
            if one is not None
        }
        return replace(self, **taken)

    def arriving(self, arrival_s: NDArray[np.float64], think_s: NDArray[np.float64] | None = None) -> "Trace":
        """Return the same requests with other arrival times."""
        return replace(self, arrival_s=arrival_s, think_s=think_s)

    def turns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number the sessions in order of their first turns; a request in none is a session of its own.

        Returns:
            int64[num_requests] session of each request, from 0 on, and int64[num_requests] its turn, from 0 on.
        """
        count = len(self)
        rows = np.arange(count)
        labels = rows if self.session is None else np.where(self.session < 0, -1 - rows, self.session)
        _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        session = rank[inverse]
        order = np.argsort(session, kind="stable")
        sizes = np.bincount(session)
        turn = np.empty(count, dtype=np.int64)
        turn[order] = rows - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return session, turn


_SINGLE = ("clients", "num_skipped", "notes")
_BY_REQUEST = [one.name for one in fields(Trace) if one.name not in _SINGLE]
