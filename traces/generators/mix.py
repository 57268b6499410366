"""Mixes of client classes, each with its own requests, arrivals and SLO."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from traces.base import Arrivals, Source
from traces.generators.synthetic import require_count
from traces.trace import TAKES_ALL, Client, PrefixBlocks, Rows, Trace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClientClass:
    """A class of clients.

    Attributes:
        requests: Source of its requests; their number follows from the arrivals of all classes.
        arrivals: Arrival process, at the rate of this class.
        slo: SLO: bounds in seconds by METRIC_STATISTIC, such as tbt_p99; None: no bounds.
    """

    requests: Source
    arrivals: Arrivals
    slo: Mapping[str, float | None] | None = None

    def load(self, count: int, seed: np.random.SeedSequence) -> Trace:
        """Return at most `count` requests with arrival times.

        If the source has fewer, all of them are returned.
        """
        requests_rng, arrivals_rng = np.random.default_rng(seed).spawn(2)
        changed: dict[str, Any] = {"num_requests": count}
        trace = replace(self.requests, **changed).load(requests_rng)
        return self.arrivals.assign(trace, arrivals_rng)


@dataclass(frozen=True)
class Mix:
    """The merged requests of several client classes, in order of arrival.

    Requires `arrival=trace`, which can also change the total rate. Recorded requests keep their lengths, times,
    sessions, priorities and prefix blocks. Classes do not share prefix blocks. If only some classes have priorities,
    the requests of the others have priority 0.

    Attributes:
        clients: Client classes by name. The random stream of a class depends on its position.
        num_requests: Requests of all classes together; fewer if the file of a class ends earlier.
    """

    sets_arrivals: ClassVar = True

    clients: Mapping[str, ClientClass]
    num_requests: int = 512

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_count("num_requests", self.num_requests)
        if not isinstance(self.clients, Mapping) or not self.clients:
            raise ValueError(f"clients must be at least one class by name, got {self.clients!r}")
        for name, client in self.clients.items():
            if not isinstance(client, ClientClass):
                raise ValueError(f"clients.{name} must be a traces.generators.ClientClass, got {client!r}")

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate or read the requests.

        Raises:
            ValueError: The requests of a class cannot be read, or a class is a closed loop.
        """
        seeds = rng.bit_generator.seed_seq.spawn(len(self.clients))  # type: ignore[attr-defined]
        counts = [max(16, 2 * self.num_requests // len(self.clients))] * len(self.clients)
        parts: list[Trace | None] = [None] * len(self.clients)
        while True:
            for index, (name, client) in enumerate(self.clients.items()):
                if parts[index] is None:
                    parts[index] = _load(name, client, counts[index], seeds[index])
            merged, short = self._merge([part for part in parts if part is not None], counts)
            if short is None:
                return merged
            counts[short] *= 2
            parts[short] = None

    def _merge(self, parts: list[Trace], counts: list[int]) -> tuple[Trace, int | None]:
        """Merge the requests of the classes.

        Args:
            parts: Requests of each class.
            counts: Requests that were asked for, of each class.

        Returns:
            The merged requests, and the index of a class that needs more requests; None: none does.
        """
        sort_s = np.concatenate([_sort_times_s(part) for part in parts])
        # The merged order is known only up to the class that ends first.
        ends = [float(np.nanmax(np.asarray(part.arrival_s))) for part in parts]
        first = int(np.argmin(ends))
        num_known = int(np.count_nonzero(sort_s <= ends[first]))
        if num_known < self.num_requests and counts[first] <= len(parts[first]):
            return parts[first], first
        order = np.argsort(sort_s, kind="stable")[: min(num_known, self.num_requests)]
        merged = self._join(parts, order)
        if len(order) == self.num_requests:
            return merged, None
        name = list(self.clients)[first]
        note = f"{len(order):,} requests instead of {self.num_requests:,}, as clients.{name} has no more"
        return replace(merged, notes=(*merged.notes, note)), None

    def _join(self, parts: list[Trace], order: Rows) -> Trace:
        """Concatenate the classes and take some of their requests.

        Args:
            parts: Requests of each class.
            order: Requests to take, in this order, as indices into the concatenation.
        """
        sessions: list[NDArray[np.int64]] = []
        for part in parts:
            sessions.append(part.turns()[0] + (sessions[-1].max() + 1 if sessions else 0))
        trace = Trace(
            np.concatenate([part.prompt_tokens for part in parts]),
            np.concatenate([part.output_tokens for part in parts]),
            session=np.concatenate(sessions) if any(part.session is not None for part in parts) else None,
            client=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            clients=tuple(Client(name, dict(client.slo or {})) for name, client in self.clients.items()),
            priority=_join_priorities(parts),
            prefix=self._join_prefixes(parts),
            num_skipped=sum(part.num_skipped for part in parts),
            # A class takes as many rows as the others need.
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes if TAKES_ALL not in note)),
        ).take(order)
        arrival_s = np.concatenate([np.asarray(part.arrival_s) for part in parts])[order]
        think_s = np.concatenate([_think_s(part) for part in parts])[order]
        return trace.arriving(arrival_s, None if np.isnan(think_s).all() else think_s)

    def _join_prefixes(self, parts: Sequence[Trace]) -> PrefixBlocks | None:
        """Return the prefix blocks of all classes; None: no class has any.

        Blocks are split to a common size, and no two classes share an id.
        """
        with_prefix = {name: part for name, part in zip(self.clients, parts, strict=True) if part.prefix is not None}
        if not with_prefix:
            return None
        size = _common_size(
            {name: part.prefix.block_tokens for name, part in with_prefix.items() if part.prefix is not None}
        )
        ids, counts, first = [], [], 0
        for part in parts:
            blocks = part.prefix
            if blocks is not None and size is not None:
                blocks = blocks.split(size, part.prompt_tokens)
            if blocks is not None:
                ids.append(blocks.renumbered(first).ids)
                first = max(first, 1 + int(ids[-1].max(initial=-1)))
            counts.append(np.zeros(len(part), dtype=np.int64) if blocks is None else np.diff(blocks.starts))
        return PrefixBlocks.of_lengths(np.concatenate(ids), np.concatenate(counts), size)


def _common_size(sizes: Mapping[str, int | None]) -> int | None:
    """Return the largest block size that divides all sizes.

    Args:
        sizes: Block sizes by class name; None: the block size of the engine.

    Returns:
        Tokens per block; None: all sizes are None.

    Raises:
        ValueError: Only some of the sizes are None.
    """
    known = [size for size in sizes.values() if size is not None]
    if not known:
        return None
    for name, size in sizes.items():
        if size is None:
            raise ValueError(
                f"clients.{name}: its prefix blocks have no size (block_tokens), but those of another class have "
                f"{known[0]} tokens; a size is needed in all classes or in none"
            )
    return math.gcd(*known)


def _join_priorities(parts: Sequence[Trace]) -> NDArray[np.int64] | None:
    if all(part.priority is None for part in parts):
        return None
    priorities = [np.zeros(len(part), dtype=np.int64) if part.priority is None else part.priority for part in parts]
    return np.concatenate(priorities)


def _think_s(part: Trace) -> Floats:
    return np.full(len(part), np.nan) if part.think_s is None else part.think_s


def _load(name: str, client: ClientClass, count: int, seed: np.random.SeedSequence) -> Trace:
    try:
        return client.load(count, seed)
    except (ValueError, TypeError) as error:
        raise ValueError(f"clients.{name}: {error}") from error


def _sort_times_s(part: Trace) -> Floats:
    """Return the times to sort by: float64[num_requests].

    They are arrival times; a request that waits has the last arrival time in its session.
    """
    session, turn = part.turns()
    arrival_s = np.asarray(part.arrival_s)
    if part.max_concurrency is not None:
        raise ValueError(
            "clients: a class of a mix has no concurrency limit of its own; arrival.max_concurrency limits all"
        )
    if np.isnan(arrival_s[turn == 0]).any():
        raise ValueError("clients: a closed loop cannot be a class of a mix, as its requests wait for each other")
    order = np.lexsort((turn, session))
    known = np.where(np.isnan(arrival_s[order]), 0, np.arange(len(part)))
    sort_s = np.empty(len(part))
    sort_s[order] = arrival_s[order][np.maximum.accumulate(known)]
    return sort_s
