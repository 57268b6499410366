"""Service level objectives of a run, and its figures against them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.results.objectives import (
    ALLOWED,
    GOODPUT,
    METRICS,
    REQUEST_METRICS,
    Goodput,
    GoodputObjective,
    Objective,
    RequestBound,
    goodput_of,
    scope,
)
from simulator.results.result import Result
from traces import Client

# Configurations write p99_9 for p99.9, which would be two keys.
_DECIMAL = re.compile(r"^(p\d+)_(\d+)$")


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

    @classmethod
    def of(cls, bounds: Mapping[str, float | None], client: str | None = None) -> "SLO":
        """Build an SLO from bounds such as {"tbt_p99": 0.2, "goodput": 0.9}.

        Latencies are in seconds: statistics of a run, "tbt_p99", and of each request, "ttft". Names without a bound are
        left out.

        Args:
            bounds: Bounds by name.
            client: Name of the client class that they apply to; None: all requests.

        Raises:
            ValueError: A name or a bound is not allowed.
        """
        given = {str(name): bound for name, bound in bounds.items() if bound is not None}
        min_share = given.pop(GOODPUT, None)
        requests = tuple(RequestBound(name, given.pop(name), client) for name in REQUEST_METRICS if name in given)
        slo = cls(tuple(Objective(*_split(name), bound, client) for name, bound in given.items()), requests=requests)
        goodputs = () if min_share is None else (GoodputObjective(min_share, slo.request_bounds, client),)
        return slo + cls(goodputs=goodputs)

    def __add__(self, other: "SLO") -> "SLO":
        """Return the objectives of both."""
        return SLO(self.objectives + other.objectives, self.goodputs + other.goodputs, self.requests + other.requests)

    def __bool__(self) -> bool:
        """Return whether there is any objective or bound."""
        return bool(self.every or self.requests)

    @property
    def every(self) -> tuple[Objective | GoodputObjective, ...]:
        """All objectives of the run."""
        return (*self.objectives, *self.goodputs)

    @property
    def request_bounds(self) -> tuple[RequestBound, ...]:
        """Tightest bound on each latency of a request.

        It is written, or that of a tail percentile.
        """
        of_tails = (bound for objective in self.objectives for bound in objective.request_bounds)
        tightest: dict[str, RequestBound] = {}
        for bound in (*self.requests, *of_tails):
            tightest[bound.name] = min(tightest.get(bound.name, bound), bound, key=lambda known: known.bound_s)
        return tuple(tightest.values())

    @property
    def bounds_queue(self) -> bool:
        """Whether an objective bounds the scheduling delay, and so the queue."""
        return any(objective.metric == "scheduling_delay" for objective in self.objectives)

    def bounds(self) -> dict[str, float]:
        """Return the bounds by name: seconds, and the share of goodput."""
        return {objective.name: objective.bound for objective in self.every}

    def values(self, result: Result) -> dict[str, float | None]:
        """Return the values by name: seconds, and the share of goodput."""
        return {objective.name: objective.value(result) for objective in self.every}

    def missed(self, result: Result) -> list[str]:
        """Return the objectives that a run does not meet, worst first.

        One without a value is not met, unless all requests finished. A client class without a request misses nothing.
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

    def figures(self, result: Result, makespan_s: float | None = None) -> dict[str, Any]:
        """Return the figures of a run against the SLO, as in summary.json.

        Args:
            result: The run.
            makespan_s: Time over which rates are taken; None: that of the run.
        """
        goodput, missed, values = self.goodput(result), self.missed(result), self.values(result)
        seconds = result.throughput.makespan_s if makespan_s is None else makespan_s
        objectives = [
            {
                "name": objective.name,
                "bound": objective.bound,
                "value": values[objective.name],
                "met": _verdict([objective.name], missed, values) if result.counted.any() else None,
            }
            for objective in self.every
        ]
        return {
            "objectives": objectives,
            "request_bounds_s": {bound.name: bound.bound_s for bound in self.request_bounds},
            "met": _verdict(values, missed, values) if self.every and result.counted.any() else None,
            "missed": [name for name in missed if values[name] is not None],
            "goodput": goodput.share,
            "goodput_qps": goodput.num_good / seconds if goodput.num_judged and seconds else None,
            "num_judged": goodput.num_judged,
        }


def objectives_of(clients: Sequence[Client]) -> SLO:
    """Return the objectives of client classes.

    Raises:
        ValueError: A name or a bound is not allowed.
    """
    slo = SLO()
    for client in clients:
        try:
            slo += SLO.of(client.slo, client.name)
        except ValueError as error:
            raise ValueError(f"clients.{client.name}.slo: {error}") from error
    return slo


def _verdict(names: Sequence[str] | Mapping[str, Any], missed: Sequence[str], values: Mapping[str, Any]) -> bool | None:
    """Return whether objectives are met; None: undecided."""
    unmet = [name for name in names if name in missed]
    if not unmet:
        return True
    return None if all(values[name] is None for name in unmet) else False


def _split(name: str) -> tuple[str, str]:
    for metric in METRICS:
        if name.startswith(f"{metric}_"):
            return metric, _DECIMAL.sub(r"\1.\2", name.removeprefix(f"{metric}_"))
    raise ValueError(f"{name} is not an objective: {ALLOWED}")
