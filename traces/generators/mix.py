"""Several classes of clients, each with its own requests, arrivals and SLO."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from traces.base import Arrivals, Source
from traces.generators.synthetic import require_count
from traces.trace import Client, PrefixBlocks, Rows, Trace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClientClass:
    """Clients of one kind.

    Attributes:
        requests: Where their requests come from; how many follows from the arrivals of all classes.
        arrivals: How they arrive, at the rate of this class.
        slo: What they expect: bounds in seconds by METRIC_STATISTIC, such as tbt_p99; None: nothing.
    """

    requests: Source
    arrivals: Arrivals
    slo: Mapping[str, float | None] | None = None

    def load(self, count: int, seed: np.random.SeedSequence) -> Trace:
        """Return so many requests with arrival times, or all that there are."""
        of_requests, of_arrivals = np.random.default_rng(seed).spawn(2)
        wanted: dict[str, Any] = {"num_requests": count}
        trace = replace(self.requests, **wanted).load(of_requests)
        return self.arrivals.assign(trace, of_arrivals)


@dataclass(frozen=True)
class Mix:
    """The requests of several classes by arrival, from second 0 until there are enough.

    Requires `arrival=trace`, which can also change the rate of the whole. Of recorded requests lengths, times,
    sessions, priorities and prefix blocks are taken. No two classes share a block; where some classes have priorities,
    those of the others are 0.

    Attributes:
        clients: The classes by name. The randomness of a class depends on its place among them.
        num_requests: Requests of all classes. There are fewer if a file that a class reads ends before.
    """

    sets_arrivals: ClassVar = True

    clients: Mapping[str, ClientClass]
    num_requests: int = 512

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_count("num_requests", self.num_requests)
        if not isinstance(self.clients, Mapping) or not self.clients:
            raise ValueError(f"clients must be at least one class by name, got {self.clients!r}")
        for name, one in self.clients.items():
            if not isinstance(one, ClientClass):
                raise ValueError(f"clients.{name} must be a traces.generators.ClientClass, got {one!r}")

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate or read the requests.

        Raises:
            ValueError: A class cannot be read, or its requests arrive only when others have ended.
        """
        seeds = rng.bit_generator.seed_seq.spawn(len(self.clients))  # type: ignore[attr-defined]
        counts = [max(16, 2 * self.num_requests // len(self.clients))] * len(self.clients)
        parts: list[Trace | None] = [None] * len(self.clients)
        while True:
            for place, (name, one) in enumerate(self.clients.items()):
                if parts[place] is None:
                    parts[place] = _loaded(name, one, counts[place], seeds[place])
            merged, short = self._merged([one for one in parts if one is not None], counts)
            if short is None:
                return merged
            counts[short] *= 2
            parts[short] = None

    def _merged(self, parts: list[Trace], counts: list[int]) -> tuple[Trace, int | None]:
        """Merge the classes.

        Returns:
            The requests, and the number of a class of which more are needed, if there is one.
        """
        place_s = np.concatenate([_place_s(part) for part in parts])
        # Nothing is known of a class beyond its last request.
        ends = [float(np.nanmax(np.asarray(part.arrival_s))) for part in parts]
        first = int(np.argmin(ends))
        num_known = int(np.count_nonzero(place_s <= ends[first]))
        if num_known < self.num_requests and counts[first] <= len(parts[first]):
            return parts[first], first
        order = np.argsort(place_s, kind="stable")[: min(num_known, self.num_requests)]
        merged = self._joined(parts, order)
        if len(order) == self.num_requests:
            return merged, None
        name = list(self.clients)[first]
        note = f"{len(order):,} requests and not {self.num_requests:,}: those of clients.{name} end"
        return replace(merged, notes=(*merged.notes, note)), None

    def _joined(self, parts: list[Trace], order: Rows) -> Trace:
        """Return requests of all parts, by their numbers in the parts one after the other."""
        sessions: list[NDArray[np.int64]] = []
        for part in parts:
            sessions.append(part.turns()[0] + (sessions[-1].max() + 1 if sessions else 0))
        trace = Trace(
            np.concatenate([part.prompt_tokens for part in parts]),
            np.concatenate([part.output_tokens for part in parts]),
            session=np.concatenate(sessions) if any(part.session is not None for part in parts) else None,
            client=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            clients=tuple(Client(name, dict(one.slo or {})) for name, one in self.clients.items()),
            priority=_priorities(parts),
            prefix=self._prefixes(parts),
            num_skipped=sum(part.num_skipped for part in parts),
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        ).take(order)
        arrival_s = np.concatenate([np.asarray(part.arrival_s) for part in parts])[order]
        think_s = np.concatenate([_think_s(part) for part in parts])[order]
        return trace.arriving(arrival_s, None if np.isnan(think_s).all() else think_s)

    def _prefixes(self, parts: Sequence[Trace]) -> PrefixBlocks | None:
        """Prefix blocks of all classes, in blocks of which all of theirs are made."""
        given = {name: part for name, part in zip(self.clients, parts, strict=True) if part.prefix is not None}
        if not given:
            return None
        size = _common_size({name: part.prefix.block_tokens for name, part in given.items() if part.prefix is not None})
        ids, counts, first = [], [], 0
        for part in parts:
            blocks = part.prefix
            if blocks is not None and size is not None:
                blocks = blocks.divided(size, part.prompt_tokens)
            if blocks is not None:
                ids.append(blocks.renumbered(first).ids)
                first = max(first, 1 + int(ids[-1].max(initial=-1)))
            counts.append(np.zeros(len(part), dtype=np.int64) if blocks is None else np.diff(blocks.starts))
        return PrefixBlocks.of_lengths(np.concatenate(ids), np.concatenate(counts), size)


def _common_size(sizes: Mapping[str, int | None]) -> int | None:
    """Tokens of the largest blocks that all of some sizes are made of; None: all are of the engine's size."""
    known = [size for size in sizes.values() if size is not None]
    if not known:
        return None
    for name, size in sizes.items():
        if size is None:
            raise ValueError(
                f"clients.{name}: its prefix blocks have no size (block_tokens) and those of another class have "
                f"{known[0]} tokens; in a mix all or none have one"
            )
    return math.gcd(*known)


def _priorities(parts: Sequence[Trace]) -> NDArray[np.int64] | None:
    if all(part.priority is None for part in parts):
        return None
    given = [np.zeros(len(part), dtype=np.int64) if part.priority is None else part.priority for part in parts]
    return np.concatenate(given)


def _think_s(part: Trace) -> Floats:
    return np.full(len(part), np.nan) if part.think_s is None else part.think_s


def _loaded(name: str, one: ClientClass, count: int, seed: np.random.SeedSequence) -> Trace:
    try:
        return one.load(count, seed)
    except (ValueError, TypeError) as error:
        raise ValueError(f"clients.{name}: {error}") from error


def _place_s(part: Trace) -> Floats:
    """When each request arrives; of one that waits, the last arrival in its session: float64[num_requests]."""
    session, turn = part.turns()
    arrival_s = np.asarray(part.arrival_s)
    if np.isnan(arrival_s[turn == 0]).any():
        raise ValueError("clients: those of a mix cannot wait for each other in a closed loop")
    order = np.lexsort((turn, session))
    known = np.where(np.isnan(arrival_s[order]), 0, np.arange(len(part)))
    place_s = np.empty(len(part))
    place_s[order] = arrival_s[order][np.maximum.accumulate(known)]
    return place_s
