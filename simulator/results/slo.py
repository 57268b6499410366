"""Service level objectives: bounds on latencies, and the goodput within them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.results.latency import Distribution, percentile_of, rank
from simulator.results.result import Result
from simulator.results.status import FINISHED, IGNORED, UNFINISHED
from simulator.results.tokens import Ints
from traces import Client

METRICS = ("tbt", "ttft", "tpot", "e2e", "scheduling_delay")
LONGEST_S = 1e6
# Configurations write p99_9 for p99.9, which would be two keys.
_DECIMAL = re.compile(r"^(p\d+)_(\d+)$")
# The event that ends each latency.
_END_COLUMN = {"ttft": "first_token_s", "e2e": "completed_s", "scheduling_delay": "first_scheduled_s"}


@dataclass(frozen=True)
class Objective:
    """Bound on a latency statistic, such as 0.2 s on P99 TBT.

    Attributes:
        metric: One of METRICS.
        statistic: "mean", "max" or a percentile such as "p99".
        bound_s: Upper bound, seconds.
        client: Name of the client class that it applies to; None: all requests.
    """

    metric: str
    statistic: str
    bound_s: float
    client: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.metric not in METRICS:
            raise ValueError(f"{self.metric}_{self.statistic} is not an objective: {METRIC_STATISTIC}")
        if self.statistic not in ("mean", "max"):
            try:
                percentile_of(self.statistic)
            except ValueError:
                raise ValueError(f"{self.name} is not an objective: {METRIC_STATISTIC}") from None
        bound = self.bound_s
        if not isinstance(bound, int | float) or isinstance(bound, bool) or not 0 < bound <= LONGEST_S:
            raise ValueError(f"{self.name} must be seconds above 0 and up to {LONGEST_S:g}, got {bound!r}")

    @property
    def name(self) -> str:
        """Name such as "tbt_p99", or "chat.tbt_p99" for a client class."""
        prefix = "" if self.client is None else f"{self.client}."
        return f"{prefix}{self.metric}_{self.statistic}"

    def scope(self, result: Result) -> Result:
        """Return the run with the figures of the objective's client class."""
        if self.client is None:
            return result
        return result.of_client([client.name for client in result.clients].index(self.client))

    def value(self, result: Result) -> float | None:
        """Return the value in a run, in seconds; None: nothing to measure.

        A request that is still waiting counts with its waiting time so far.
        """
        result = self.scope(result)
        if self.metric not in _END_COLUMN:
            return result.latencies[f"{self.metric}_s"].statistic(self.statistic)
        considered = result.counted & (result.status != IGNORED)
        return Distribution(_waited_s(self.metric, result)[considered]).statistic(self.statistic)


METRIC_STATISTIC = (
    f"write METRIC_STATISTIC=SECONDS with a metric of {', '.join(METRICS)} "
    "and a statistic of mean, max or a percentile such as p50, p99, p99.9"
)


@dataclass(frozen=True)
class Goodput:
    """Requests that meet every objective on their own.

    Attributes:
        share: Their share of the requests whose outcome is known; None: there are none.
        requests_per_s: Their number per second of the run; None: the run took no time.
    """

    share: float | None
    requests_per_s: float | None


@dataclass(frozen=True)
class SLO:
    """Set of objectives that must all be met.

    Attributes:
        objectives: At least one.
    """

    objectives: tuple[Objective, ...]

    def __post_init__(self) -> None:
        """Check that there are objectives."""
        if not self.objectives:
            raise ValueError(f"there is no objective: {METRIC_STATISTIC}")

    @classmethod
    def of(cls, bounds: Mapping[str, float | None]) -> "SLO":
        """Build an SLO from bounds in seconds, such as {"tbt_p99": 0.2}.

        Raises:
            ValueError: A name or a bound is not allowed, or there is none.
        """
        return cls(_objectives(bounds))

    @property
    def bounds_waiting(self) -> bool:
        """Whether an objective bounds the time that requests wait to be served."""
        return any(objective.metric in _END_COLUMN for objective in self.objectives)

    def bounds(self) -> dict[str, float]:
        """Return the bounds in seconds by name."""
        return {objective.name: objective.bound_s for objective in self.objectives}

    def values(self, result: Result) -> dict[str, float | None]:
        """Return the values in a run, seconds by objective name."""
        return {objective.name: objective.value(result) for objective in self.objectives}

    def missed(self, result: Result) -> list[str]:
        """Return the names of the objectives that a run misses, worst first.

        The worst has the largest ratio of value to bound. A latency without a value is missed, unless there were
        requests and all finished. A client class without a request misses nothing.
        """
        shares = {}
        for objective in self.objectives:
            value, counted = objective.value(result), objective.scope(result).counted
            if objective.client is not None and not counted.any():
                continue
            ended = counted.any() and (result.status[counted] == FINISHED).all()
            share = (0.0 if ended else np.inf) if value is None else value / objective.bound_s
            if share > 1:
                shares[objective.name] = share
        return sorted(shares, key=lambda name: -shares[name])

    def goodput(self, result: Result) -> Goodput:
        """Return the share and rate of requests that meet every bound.

        They finished with each of their own latencies within the bounds. For TBT, the statistic of the request's own
        gaps counts: with tbt_p99, 99 % of them must be within the bound. A request that the time limit cut off counts
        as missed if it is already late, else not at all.
        """
        late = np.zeros(len(result.status), dtype=bool)
        for objective in self.objectives:
            late |= _is_late(objective, result) & objective.scope(result).counted
        counted, status = result.counted, result.status
        good = counted & (status == FINISHED) & ~late
        known = counted & ((status != UNFINISHED) | late)
        num_good, num_known = int(np.count_nonzero(good)), int(np.count_nonzero(known))
        if not counted.any():
            return Goodput(None, None)
        span_s = result.end_s - float(result.requests["arrival_s"][counted].min())
        return Goodput(num_good / num_known if num_known else None, num_good / span_s if span_s > 0 else None)


def objectives_of(clients: Sequence[Client]) -> tuple[Objective, ...]:
    """Return the objectives of client classes.

    Raises:
        ValueError: A name or a bound is not allowed.
    """
    objectives: list[Objective] = []
    for client in clients:
        try:
            objectives += _objectives(client.slo, client.name)
        except ValueError as error:
            raise ValueError(f"clients.{client.name}.slo: {error}") from error
    return tuple(objectives)


def _objectives(bounds: Mapping[str, float | None], client: str | None = None) -> tuple[Objective, ...]:
    """Return the objectives; names without a bound are left out."""
    given = {str(name): bound for name, bound in bounds.items() if bound is not None}
    return tuple(Objective(*_split(name), bound, client) for name, bound in given.items())


def _split(name: str) -> tuple[str, str]:
    for metric in METRICS:
        if name.startswith(f"{metric}_"):
            return metric, _DECIMAL.sub(r"\1.\2", name.removeprefix(f"{metric}_"))
    raise ValueError(f"{name} is not an objective: {METRIC_STATISTIC}")


def _is_late(objective: Objective, result: Result) -> NDArray[np.bool_]:
    """Return whether each request misses the bound on its own: bool[num_requests]."""
    table, bound_s, statistic = result.requests, objective.bound_s, objective.statistic
    if objective.metric == "tbt" and statistic != "mean":
        num_above, num_gaps = result.gaps_above(bound_s)
        return np.asarray(num_above > _num_allowed(statistic, num_gaps))
    if objective.metric in ("tbt", "tpot"):
        gaps = table["output_tokens"] - 1
        decode_s = table["completed_s"] - table["first_token_s"]
        return np.asarray((gaps > 0) & (decode_s > bound_s * gaps))
    return np.asarray(_waited_s(objective.metric, result) > bound_s)


def _waited_s(metric: str, result: Result) -> NDArray[np.float64]:
    """Return the latency of each request, or its waiting time so far.

    Returns:
        float64[num_requests], seconds.
    """
    end_s = result.requests[_END_COLUMN[metric]]
    return np.asarray(np.where(np.isnan(end_s), result.end_s, end_s) - result.requests["arrival_s"])


def _num_allowed(statistic: str, num_gaps: Ints) -> Ints:
    """Return how many gaps of each request may exceed the bound: int64[num_requests]."""
    if statistic == "max":
        return np.zeros_like(num_gaps)
    percentile = percentile_of(statistic)
    counts, inverse = np.unique(num_gaps, return_inverse=True)
    allowed = np.array([count - rank(percentile, count) for count in counts.tolist()], dtype=np.int64)
    return np.asarray(allowed[inverse])
