"""Service level objectives of a run, and its figures against them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.results.objectives import (
    ALLOWED,
    Goodput,
    GoodputObjective,
    Objective,
    Objectives,
    RequestBound,
    goodput_of,
    parse_objectives,
    scope,
)
from simulator.results.result import Result
from traces import Client


@dataclass(frozen=True)
class SLO:
    """Objectives that must all be met, and bounds that define goodput.

    Attributes:
        objectives: Bounds on latency statistics.
        goodputs: Bounds on goodput.
        requests: Bounds on each request, besides those that follow from `objectives`.
    """

    objectives: tuple[Objective, ...] = ()
    goodputs: tuple[GoodputObjective, ...] = ()
    requests: tuple[RequestBound, ...] = ()

    def __post_init__(self) -> None:
        """Check that there are objectives."""
        if not self.every and not self.requests:
            raise ValueError(f"there is no objective: {ALLOWED}")

    @classmethod
    def of(cls, bounds: Mapping[str, float | None]) -> "SLO":
        """Build an SLO from bounds such as {"tbt_p99": 0.2, "goodput": 0.9}.

        Latencies are in seconds: statistics of a run, "tbt_p99", and of each request, "ttft".

        Raises:
            ValueError: A name or a bound is not allowed, or there is none.
        """
        return cls.from_objectives(parse_objectives(bounds))

    @classmethod
    def from_objectives(cls, written: Objectives) -> "SLO":
        """Build an SLO from parsed objectives.

        Raises:
            ValueError: There are none.
        """
        return cls(written.latencies, written.goodputs, written.requests)

    @property
    def every(self) -> tuple[Objective | GoodputObjective, ...]:
        """All objectives of the run."""
        return (*self.objectives, *self.goodputs)

    @property
    def request_bounds(self) -> tuple[RequestBound, ...]:
        """Bounds on each request: the written ones, and those of tail percentiles."""
        return (*self.requests, *(bound for objective in self.objectives for bound in objective.request_bounds))

    @property
    def bounds_waiting(self) -> bool:
        """Whether an objective bounds the time that requests wait to be served."""
        return any(objective.bounds_waiting for objective in self.every)

    def bounds(self) -> dict[str, float]:
        """Return the bounds by name: seconds, and the share of goodput."""
        return {objective.name: objective.bound for objective in self.every}

    def values(self, result: Result) -> dict[str, float | None]:
        """Return the values by name: seconds, and the share of goodput."""
        return {objective.name: objective.value(result) for objective in self.every}

    def missed(self, result: Result) -> list[str]:
        """Return the names of the objectives that a run misses, worst first.

        A client class without a request misses nothing.
        """
        excess = {
            objective.name: objective.excess(result)
            for objective in self.every
            if objective.client is None or scope(result, objective.client).counted.any()
        }
        return sorted((name for name in excess if excess[name] > 1), key=lambda name: -excess[name])

    def goodput(self, result: Result) -> Goodput:
        """Return the goodput: requests that meet every bound on their own."""
        return goodput_of(result, self.request_bounds)

    def figures(self, result: Result) -> dict[str, Any]:
        """Return the figures of a run against the SLO, as in summary.json."""
        goodput, missed = self.goodput(result), self.missed(result)
        return {
            "objectives": [
                {"name": objective.name, "bound": objective.bound, "value": objective.value(result)}
                for objective in self.every
            ],
            "request_bounds_s": {bound.name: bound.bound_s for bound in self.request_bounds},
            "met": not missed if self.every and result.counted.any() else None,
            "missed": missed,
            "goodput": goodput.share,
            "goodput_qps": goodput.requests_per_s,
        }


def objectives_of(clients: Sequence[Client]) -> Objectives:
    """Return the objectives of client classes.

    Raises:
        ValueError: A name or a bound is not allowed.
    """
    written = Objectives()
    for client in clients:
        try:
            written += parse_objectives(client.slo, client.name)
        except ValueError as error:
            raise ValueError(f"clients.{client.name}.slo: {error}") from error
    return written
