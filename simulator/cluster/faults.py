"""What goes wrong in a cluster, and when: failures, slow replicas and slow networks, by schedule or by rate."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from heapq import merge
from typing import Any

import numpy as np

from simulator.log import FAILURE, KINDS, FaultSpan

RESUME, RESTART, LOSE = ON_FAILURE = ("resume", "restart", "lose")
MOST_REPLICAS = 10_000
LONGEST_S = 1e12


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong once.

    Attributes:
        kind: "failure": the replica loses its batches, KV blocks and requests, and takes none until it is back.
            "slowdown": its iterations take longer. "network": the messages between its GPUs do.
        at_s: When it begins, simulated seconds.
        for_s: How long it lasts, seconds; None: for ever.
        replica: Number of the replica; None: every one.
        slowdown: How many times as long iterations or messages take; of failures 1.
    """

    kind: str
    at_s: float
    for_s: float | None = None
    replica: int | None = None
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        _require_kind(self.kind, self.slowdown)
        _require_number("at_s", self.at_s, 0.0)
        if self.for_s is not None:
            _require_number("for_s", self.for_s, 1e-9)
        _require_replica(self.replica)

    def at_replica(self, replica: int) -> FaultSpan:
        """Return the fault as it happens at one replica."""
        return FaultSpan(self.kind, self.at_s, self.for_s, replica, self.slowdown)


@dataclass(frozen=True)
class FaultRate:
    """Something that goes wrong again and again: both times are exponentially distributed.

    Attributes:
        kind: As of `Fault`.
        every_s: Mean time from the end of one to the beginning of the next, of each replica (MTBF), seconds.
        for_s: Mean time that it lasts (MTTR), seconds.
        replica: Number of the replica; None: every one, independently.
        slowdown: As of `Fault`.
    """

    kind: str
    every_s: float
    for_s: float
    replica: int | None = None
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        _require_kind(self.kind, self.slowdown)
        for name in ("every_s", "for_s"):
            _require_number(name, getattr(self, name), 1e-3)
        _require_replica(self.replica)

    def at_replica(self, replica: int, random: np.random.Generator) -> Iterator[FaultSpan]:
        """Yield what goes wrong with a replica, one after another, without end."""
        end_s = 0.0
        while True:
            at_s = end_s + random.exponential(self.every_s)
            fault = FaultSpan(self.kind, at_s, max(random.exponential(self.for_s), 1e-9), replica, self.slowdown)
            yield fault
            end_s = fault.end_s


@dataclass(frozen=True)
class Faults:
    """What goes wrong in a run, and what becomes of the requests of a replica that fails.

    Attributes:
        schedule: What goes wrong at a known time; of each a `Fault` or its values by name.
        rates: What goes wrong by chance; of each a `FaultRate` or its values by name.
        on_failure: "resume": the gateway sends each request on with the tokens that it has got so far, which are
            prompt then. "restart": from the beginning; tokens that were sent before do not count. "lose": never.
        max_retries: How often a request is sent again before it is lost.
    """

    schedule: Sequence[Fault | Mapping[str, Any]] = field(default=())
    rates: Sequence[FaultRate | Mapping[str, Any]] = field(default=())
    on_failure: str = RESUME
    max_retries: int = 10

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "schedule", _all_of(Fault, self.schedule, "schedule"))
        object.__setattr__(self, "rates", _all_of(FaultRate, self.rates, "rates"))
        if self.on_failure not in ON_FAILURE:
            raise ValueError(f"on_failure must be one of {', '.join(ON_FAILURE)}; got {self.on_failure!r}")
        retries = self.max_retries
        if not isinstance(retries, int) or isinstance(retries, bool) or not 0 <= retries <= 1_000_000:
            raise ValueError(f"max_retries must be an integer from 0 to 1000000, got {retries!r}")

    def __bool__(self) -> bool:
        """Whether anything goes wrong."""
        return bool(self.schedule or self.rates)

    @property
    def kinds(self) -> set[str]:
        """Kinds of what goes wrong."""
        return {one.kind for one in self._all}

    def check_replicas(self, num_replicas: int) -> None:
        """Check that there are all replicas that are named.

        Raises:
            ValueError: There is one too few.
        """
        for one in self._all:
            if one.replica is not None and one.replica >= num_replicas:
                raise ValueError(f"faults: there is no replica {one.replica}; there are {num_replicas}, counted from 0")

    def in_order(self, num_replicas: int, seed: Sequence[int]) -> Iterator[FaultSpan]:
        """Yield what goes wrong, each fault of one replica, by the time when it begins; without end if by rate.

        Args:
            num_replicas: Replicas of the cluster.
            seed: Seed of the randomness: each rate and replica has its own, so that none depends on another.

        Raises:
            ValueError: A replica that does not exist.
        """
        self.check_replicas(num_replicas)
        scheduled = [
            one.at_replica(replica) for one in self._scheduled for replica in _chosen(one.replica, num_replicas)
        ]
        by_chance = (
            rate.at_replica(replica, np.random.default_rng([*seed, number, replica]))
            for number, rate in enumerate(self._recurring)
            for replica in _chosen(rate.replica, num_replicas)
        )
        return merge(sorted(scheduled, key=_begin), *by_chance, key=_begin)

    @property
    def _all(self) -> list[Fault | FaultRate]:
        return [*self._scheduled, *self._recurring]

    @property
    def _scheduled(self) -> list[Fault]:
        return [one for one in self.schedule if isinstance(one, Fault)]

    @property
    def _recurring(self) -> list[FaultRate]:
        return [one for one in self.rates if isinstance(one, FaultRate)]


def _begin(fault: FaultSpan) -> float:
    return fault.at_s


def _chosen(replica: int | None, num_replicas: int) -> Sequence[int]:
    return range(num_replicas) if replica is None else [replica]


def _all_of(kind: type, values: object, name: str) -> tuple[Any, ...]:
    """Build each of a list of values by name."""
    known = [one.name for one in fields(kind)]
    allowed = f"{name} must be a list of {{{', '.join(known)}}}"
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
        raise ValueError(f"{allowed}; got {values!r}")
    built = []
    for number, value in enumerate(values):
        if isinstance(value, kind):
            built.append(value)
            continue
        if not isinstance(value, Mapping):
            raise ValueError(f"{allowed}; [{number}] is {value!r}")
        unknown = [key for key in value if key not in known]
        if unknown:
            raise ValueError(f"{name}[{number}].{unknown[0]} is not a key; allowed are: {', '.join(known)}")
        try:
            built.append(kind(**value))
        except TypeError:
            lacking = [one for one in ("kind", "at_s", "every_s", "for_s") if one in known and one not in value]
            raise ValueError(f"{name}[{number}] lacks {lacking[0]}") from None
        except ValueError as error:
            raise ValueError(f"{name}[{number}].{error}") from None
    return tuple(built)


def _require_kind(kind: object, slowdown: object) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    _require_number("slowdown", slowdown, 1.0)
    if kind == FAILURE and slowdown != 1:
        raise ValueError(f"slowdown must be 1 of a failure, got {slowdown!r}")
    if kind != FAILURE and slowdown == 1:
        raise ValueError(f"slowdown must be above 1 of a {kind}, got {slowdown!r}")


def _require_number(name: str, value: object, least: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= LONGEST_S:
        raise ValueError(f"{name} must be a number from {least:g} to {LONGEST_S:g}, got {value!r}")


def _require_replica(replica: object) -> None:
    if replica is None:
        return
    if not isinstance(replica, int) or isinstance(replica, bool) or not 0 <= replica < MOST_REPLICAS:
        raise ValueError(f"replica must be an integer from 0 to {MOST_REPLICAS - 1} or null, got {replica!r}")
