"""Cluster faults: failures, slowdowns and slow networks, scheduled or at random."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from heapq import merge
from typing import Any

import numpy as np

from simulator.log import FAILURE, KINDS, FaultSpan
from traces.shared.value_checks import choice, each, instance, integer, number, sequence

RESUME, RESTART, LOSE = ON_FAILURE = ("resume", "restart", "lose")
MOST_REPLICAS = 10_000
LONGEST_S = 1e12


@dataclass(frozen=True)
class Fault:
    """A scheduled fault.

    Attributes:
        kind: "failure": the replica loses its batches in flight, KV blocks and requests, and takes none until it is
            back. "slowdown": its iterations take longer. "network": messages between its GPUs take longer.
        at_s: Start time, simulated seconds.
        for_s: Duration, seconds; None: forever.
        replica: Number of the replica; None: every replica.
        slowdown: Factor on the time of iterations or messages; 1 for failures.
    """

    kind: str
    at_s: float
    for_s: float | None = None
    replica: int | None = None
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        _require_kind(self.kind, self.slowdown)
        number("at_s", self.at_s, 0.0, LONGEST_S)
        number("for_s", self.for_s, 1e-9, LONGEST_S, optional=True)
        integer("replica", self.replica, 0, MOST_REPLICAS - 1, optional=True)

    def at_replica(self, replica: int) -> FaultSpan:
        """Return the fault of one replica."""
        return FaultSpan(self.kind, self.at_s, self.for_s, replica, self.slowdown)


@dataclass(frozen=True)
class FaultRate:
    """Random recurring faults.

    The times between faults and their durations are exponentially distributed.

    Attributes:
        kind: As in `Fault`.
        every_s: Mean time from the end of a fault to the next one of the same replica (MTBF), seconds.
        for_s: Mean duration (MTTR), seconds.
        replica: Number of the replica; None: every replica, independently.
        slowdown: As in `Fault`.
    """

    kind: str
    every_s: float
    for_s: float
    replica: int | None = None
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        _require_kind(self.kind, self.slowdown)
        each(number, self, ("every_s", "for_s"), 1e-3, LONGEST_S)
        integer("replica", self.replica, 0, MOST_REPLICAS - 1, optional=True)

    def at_replica(self, replica: int, random: np.random.Generator) -> Iterator[FaultSpan]:
        """Yield the faults of one replica in order, without end."""
        end_s = 0.0
        while True:
            at_s = end_s + random.exponential(self.every_s)
            fault = FaultSpan(self.kind, at_s, max(random.exponential(self.for_s), 1e-9), replica, self.slowdown)
            yield fault
            end_s = fault.end_s


@dataclass(frozen=True)
class Faults:
    """Faults of a run, and how the gateway handles dropped requests.

    Attributes:
        schedule: Scheduled faults, each a `Fault` or a mapping of its values.
        rates: Random faults, each a `FaultRate` or a mapping of its values.
        on_failure: "resume": the gateway sends each request again, with the tokens emitted so far as part of the
            prompt. "restart": it sends each request again from the beginning, and tokens emitted before do not count.
            "lose": it sends none again.
        max_retries: Retries of a request before it is lost.
    """

    schedule: Sequence[Fault | Mapping[str, Any]] = field(default=())
    rates: Sequence[FaultRate | Mapping[str, Any]] = field(default=())
    on_failure: str = RESUME
    max_retries: int = 10

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "schedule", _build_all(Fault, self.schedule, "schedule"))
        object.__setattr__(self, "rates", _build_all(FaultRate, self.rates, "rates"))
        choice("on_failure", self.on_failure, ON_FAILURE)
        integer("max_retries", self.max_retries, 0, 1_000_000)

    def __bool__(self) -> bool:
        """Whether there are any faults."""
        return bool(self.schedule or self.rates)

    @property
    def kinds(self) -> set[str]:
        """Kinds of the faults."""
        return {fault.kind for fault in self._all}

    def check_replicas(self, num_replicas: int) -> None:
        """Check that the replicas of all faults exist.

        Raises:
            ValueError: A replica does not exist.
        """
        for fault in self._all:
            if fault.replica is not None and fault.replica >= num_replicas:
                raise ValueError(
                    f"faults: replica {fault.replica} does not exist; the cluster has {num_replicas}, numbered from 0"
                )

    def in_order(self, num_replicas: int, seed: Sequence[int]) -> Iterator[FaultSpan]:
        """Yield the faults by start time, each of one replica.

        If there are random faults, the iterator never ends.

        Args:
            num_replicas: Replicas of the cluster.
            seed: Seed of random faults. Each rate and replica has its own generator and depends on no other.

        Raises:
            ValueError: A fault names a replica that does not exist.
        """
        self.check_replicas(num_replicas)
        scheduled = [
            fault.at_replica(replica) for fault in self._scheduled for replica in _chosen(fault.replica, num_replicas)
        ]
        recurring = (
            rate.at_replica(replica, np.random.default_rng([*seed, index, replica]))
            for index, rate in enumerate(self._recurring)
            for replica in _chosen(rate.replica, num_replicas)
        )
        return merge(sorted(scheduled, key=_begin), *recurring, key=_begin)

    @property
    def _all(self) -> list[Fault | FaultRate]:
        return [*self._scheduled, *self._recurring]

    @property
    def _scheduled(self) -> list[Fault]:
        return [fault for fault in self.schedule if isinstance(fault, Fault)]

    @property
    def _recurring(self) -> list[FaultRate]:
        return [rate for rate in self.rates if isinstance(rate, FaultRate)]


def _begin(fault: FaultSpan) -> float:
    return fault.at_s


def _chosen(replica: int | None, num_replicas: int) -> Sequence[int]:
    return range(num_replicas) if replica is None else [replica]


def _build_all(kind: type, values: Any, name: str) -> tuple[Any, ...]:
    """Build a `Fault` or `FaultRate` from each mapping of a list."""
    known = [attribute.name for attribute in fields(kind)]
    entry = f"{{{', '.join(known)}}}"
    sequence(name, values, f"a list of {entry}", instance, (kind, Mapping), entry)
    built = []
    for index, value in enumerate(values):
        if isinstance(value, kind):
            built.append(value)
            continue
        unknown = [key for key in value if key not in known]
        if unknown:
            raise ValueError(f"{name}[{index}].{unknown[0]} is not a key; allowed are: {', '.join(known)}")
        try:
            built.append(kind(**value))
        except TypeError:
            missing = [key for key in ("kind", "at_s", "every_s", "for_s") if key in known and key not in value]
            raise ValueError(f"{name}[{index}] lacks {missing[0]}") from None
        except ValueError as error:
            raise ValueError(f"{name}[{index}].{error}") from None
    return tuple(built)


def _require_kind(kind: object, slowdown: object) -> None:
    choice("kind", kind, KINDS)
    number("slowdown", slowdown, 1.0, LONGEST_S)
    if kind == FAILURE and slowdown != 1:
        raise ValueError(f"slowdown must be 1 for a {kind}, got {slowdown!r}")
    if kind != FAILURE and slowdown == 1:
        raise ValueError(f"slowdown must be above 1 for a {kind}, got {slowdown!r}")
