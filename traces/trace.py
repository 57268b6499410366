"""Requests as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.shared.value_checks import integer
from traces.shared.warnings import Warning

Rows = NDArray[np.int64] | NDArray[np.bool_]
# Files are read as float64, in which integers up to here are exact.
LARGEST_PRIORITY = 2**53
MOST_CONCURRENT = 10**6
# Ends the note about rows of a file that were not needed.
TAKES_ALL = "trace.num_requests=null takes all"


def join_ranges(first: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int32] | NDArray[np.int64]:
    """Concatenate ranges of integers.

    Args:
        first: int64[num_ranges], first integer of each range, at least 0.
        counts: int64[num_ranges], length of each range, at least 0.

    Returns:
        int32[sum of counts] if every value fits, else int64[sum of counts].
    """
    before = np.cumsum(counts) - counts
    largest = max(int(counts.sum()), int((first + counts).max(initial=0)))
    dtype = np.int32 if largest <= np.iinfo(np.int32).max else np.int64
    joined = np.arange(counts.sum(), dtype=dtype)
    joined += np.repeat((first - before).astype(dtype), counts)
    return joined


@dataclass(frozen=True)
class PrefixBlocks:
    """Blocks of tokens that show which requests share a prefix.

    Two blocks have the same id if all tokens up to their ends are the same. A request has either the blocks of its
    prompt (the last may be partly filled) or all full blocks of its prompt and output together.

    Attributes:
        ids: int32[num_blocks] or int64[num_blocks], request after request.
        starts: int64[num_requests + 1], index in `ids` of the first block of each request.
        block_tokens: Tokens per block; None: the block size of the engine.
    """

    ids: NDArray[np.integer[Any]]
    starts: NDArray[np.int64]
    block_tokens: int | None = None

    @classmethod
    def of_lengths(
        cls, ids: NDArray[np.integer[Any]], num_blocks: NDArray[np.int64], block_tokens: int | None = None
    ) -> "PrefixBlocks":
        """Build from the number of blocks of each request, int64[num_requests]."""
        return cls(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(num_blocks)]), block_tokens)

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.starts) - 1

    def of(self, request: int) -> NDArray[np.integer[Any]]:
        """Return the block ids of a request."""
        return self.ids[self.starts[request] : self.starts[request + 1]]

    def first_mask(self, num_blocks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each block is among the first `num_blocks` of its request.

        Args:
            num_blocks: int64[num_requests].

        Returns:
            bool[len(ids)].
        """
        counts = np.diff(self.starts)
        first = np.minimum(counts, num_blocks)
        return np.repeat(np.tile([True, False], len(counts)), np.column_stack([first, counts - first]).ravel())

    def renumbered(self, first: int = 0) -> "PrefixBlocks":
        """Return the same blocks with consecutive ids that start at `first`."""
        return replace(self, ids=first + np.unique(self.ids, return_inverse=True)[1])

    def split(self, block_tokens: int, prompt_tokens: NDArray[np.int64]) -> "PrefixBlocks":
        """Split into smaller blocks.

        Args:
            block_tokens: Tokens per new block; divides the present block size.
            prompt_tokens: int64[num_requests], prompt lengths.

        Raises:
            ValueError: `block_tokens` does not divide the block size, or that is unknown.
        """
        size, num_before = self.block_tokens, np.diff(self.starts)
        if size is None or size % block_tokens:
            raise ValueError(f"blocks of {size} tokens cannot be divided into blocks of {block_tokens}")
        parts = size // block_tokens
        with_output = num_before > -(-prompt_tokens // size)
        counts = num_before * parts
        counts = np.where(with_output, counts, np.minimum(counts, -(-prompt_tokens // block_tokens)))
        index = join_ranges(np.zeros_like(counts), counts)
        ids = self.renumbered().ids[np.repeat(self.starts[:-1], counts) + index // parts] * parts + index % parts
        return PrefixBlocks.of_lengths(ids, counts, block_tokens)

    def take(self, rows: Rows) -> "PrefixBlocks":
        """Return the blocks of some requests, given by index or mask."""
        counts, first = np.diff(self.starts)[rows], self.starts[:-1][rows]
        return PrefixBlocks.of_lengths(self.ids[join_ranges(first, counts)], counts, self.block_tokens)


@dataclass(frozen=True)
class Client:
    """A class of clients.

    Attributes:
        name: Name of the class.
        slo: Its SLO: bounds in seconds by METRIC_STATISTIC, such as tbt_p99; None: no bound.
    """

    name: str
    slo: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival.

    A request either has an arrival time or waits. A later turn of a session waits for the answer to the previous turn;
    a first turn waits until any session has ended. It then arrives `think_s` later. The turns of a session are in
    order, and a request comes after the one that it waits for. With a concurrency limit, a request whose time has come
    is sent when fewer requests are in flight.

    Attributes:
        prompt_tokens: int64[num_requests], at least 1.
        output_tokens: int64[num_requests], at least 1.
        arrival_s: float64[num_requests], at least 0, not decreasing, NaN where a request waits; None: lengths only.
        request_id: Strings or int64[num_requests], unique; None: the row numbers.
        session: int64[num_requests], equal within a session, negative for requests in no session; None: no sessions.
        think_s: float64[num_requests], at least 0 where a request waits, else NaN; None: no request waits.
        client: int64[num_requests], index of the request's class in `clients`; None: no classes.
        clients: Classes of clients.
        priority: int64[num_requests], smaller values first under policies with priorities; None: all the same.
        prefix: Prefix blocks of the prompts, or of prompts and outputs; None: unknown.
        max_concurrency: Most requests in flight; None: no limit.
        num_skipped: Malformed rows of the file that were skipped.
        notes: Warnings about the requests.
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
    max_concurrency: int | None = None
    num_skipped: int = 0
    notes: tuple[Warning, ...] = ()

    def __post_init__(self) -> None:
        """Check array lengths and value ranges."""
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
        integer("max_concurrency", self.max_concurrency, 1, MOST_CONCURRENT, optional=True)
        if self.client is not None and not (self.client.min() >= 0 and self.client.max() < len(self.clients)):
            raise ValueError(f"client must be numbers of the {len(self.clients)} clients")
        self._check_priorities()
        self._check_times()

    def _check_priorities(self) -> None:
        if self.priority is None:
            return
        is_integer = np.issubdtype(self.priority.dtype, np.integer)
        if not is_integer or self.priority.min() < -LARGEST_PRIORITY or self.priority.max() > LARGEST_PRIORITY:
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

    @property
    def has_prefixes(self) -> bool:
        """Whether anything is known of what prompts share.

        Prefix blocks say so, and sessions of several turns.
        """
        if self.prefix is not None or self.session is None:
            return self.prefix is not None
        numbers = self.session[self.session >= 0]
        return len(np.unique(numbers)) < len(numbers)

    def take(self, rows: Rows) -> "Trace":
        """Return some of the requests, given by index or as a mask."""
        values = {name: getattr(self, name) for name in _BY_REQUEST}
        taken: dict[str, Any] = {
            name: value.take(rows) if isinstance(value, PrefixBlocks) else value[rows]
            for name, value in values.items()
            if value is not None
        }
        return replace(self, **taken)

    def arriving(
        self,
        arrival_s: NDArray[np.float64],
        think_s: NDArray[np.float64] | None = None,
        max_concurrency: int | None = None,
    ) -> "Trace":
        """Return the same requests with other arrival and think times."""
        return replace(self, arrival_s=arrival_s, think_s=think_s, max_concurrency=max_concurrency)

    def turns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number sessions by their first turns, and turns within sessions.

        A request in no session counts as a session of one turn.

        Returns:
            int64[num_requests] session of each request, from 0, and int64[num_requests] turn of each request, from 0.
        """
        count = len(self)
        rows = np.arange(count)
        keys = rows if self.session is None else np.where(self.session < 0, -1 - rows, self.session)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        session = rank[inverse]
        order = np.argsort(session, kind="stable")
        sizes = np.bincount(session)
        turn = np.empty(count, dtype=np.int64)
        turn[order] = rows - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return session, turn


_OF_TRACE = ("clients", "max_concurrency", "num_skipped", "notes")
_BY_REQUEST = [field.name for field in fields(Trace) if field.name not in _OF_TRACE]
