"""Service level objectives: bounds on latencies, and how much of the load stays within them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.results.latency import Distribution, Ints, percentile_of, rank
from simulator.results.result import Result
from simulator.results.status import FINISHED, IGNORED, UNFINISHED
from traces import Client

METRICS = ("tbt", "ttft", "tpot", "e2e", "scheduling_delay")
LONGEST_S = 1e6
# In configurations p99_9 stands for p99.9, which would be two keys.
_DECIMAL = re.compile(r"^(p\d+)_(\d+)$")
# What a request has to reach for a latency to end.
_REACHED = {"ttft": "first_token_s", "e2e": "completed_s", "scheduling_delay": "first_scheduled_s"}


@dataclass(frozen=True)
class Objective:
    """A bound on one statistic of one latency, such as 0.2 s on the P99 TBT.

    Attributes:
        metric: One of METRICS.
        statistic: "mean", "max" or a percentile such as "p99".
        bound_s: What it may be at most, seconds.
        client: Name of the class of clients whose requests it is about; None: of all.
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
        """Name of the objective, for example "tbt_p99", or "chat.tbt_p99" of one class of clients."""
        whose = "" if self.client is None else f"{self.client}."
        return f"{whose}{self.metric}_{self.statistic}"

    def among(self, result: Result) -> Result:
        """Return a run with figures about the requests that the objective is about."""
        if self.client is None:
            return result
        return result.of_client([one.name for one in result.clients].index(self.client))

    def value(self, result: Result) -> float | None:
        """What a run shows, seconds; None where it has nothing to measure.

        A request that is still waiting counts with what it has waited so far.
        """
        result = self.among(result)
        if self.metric not in _REACHED:
            return result.latencies[f"{self.metric}_s"].statistic(self.statistic)
        considered = result.counted & (result.status != IGNORED)
        return Distribution(_waited_s(self.metric, result)[considered]).statistic(self.statistic)


METRIC_STATISTIC = (
    f"write METRIC_STATISTIC=SECONDS with a metric of {', '.join(METRICS)} "
    "and a statistic of mean, max or a percentile such as p50, p99, p99.9"
)


@dataclass(frozen=True)
class Goodput:
    """Requests that stay within every objective on their own.

    Attributes:
        share: Of the requests whose fate is known; None: there are none.
        requests_per_s: Such requests per second of the run; None: the run took no time.
    """

    share: float | None
    requests_per_s: float | None


@dataclass(frozen=True)
class SLO:
    """Objectives that have to be met together.

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
        """Build it of bounds in seconds by name, for example {"tbt_p99": 0.2}.

        Raises:
            ValueError: A name or a bound that is not allowed, or none at all.
        """
        return cls(_objectives(bounds))

    @property
    def bounds_waiting(self) -> bool:
        """Whether an objective is missed when requests wait ever longer before they are served."""
        return any(one.metric in _REACHED for one in self.objectives)

    def bounds(self) -> dict[str, float]:
        """Return the bounds in seconds by name."""
        return {one.name: one.bound_s for one in self.objectives}

    def values(self, result: Result) -> dict[str, float | None]:
        """Return what a run shows, seconds by name of the objective."""
        return {one.name: one.value(result) for one in self.objectives}

    def missed(self, result: Result) -> list[str]:
        """Names of the objectives that a run misses, the worst one (by its share of the bound) first.

        A latency that nobody has shown is missed, unless there were requests and all finished. A class of clients
        without a request misses nothing.
        """
        shares = {}
        for one in self.objectives:
            value, counted = one.value(result), one.among(result).counted
            if one.client is not None and not counted.any():
                continue
            ended = counted.any() and (result.status[counted] == FINISHED).all()
            share = (0.0 if ended else np.inf) if value is None else value / one.bound_s
            if share > 1:
                shares[one.name] = share
        return sorted(shares, key=lambda name: -shares[name])

    def goodput(self, result: Result) -> Goodput:
        """Requests that finished with each of their own latencies within the bounds.

        Of TBT the statistic of the request's own gaps counts: with tbt_p99, 99 % of them have to be within the
        bound. A request that the time limit cut off counts as missed if it is late already, else not at all.
        """
        late = np.zeros(len(result.status), dtype=bool)
        for one in self.objectives:
            late |= _late(one, result) & one.among(result).counted
        counted, status = result.counted, result.status
        good = counted & (status == FINISHED) & ~late
        known = counted & ((status != UNFINISHED) | late)
        num_good, num_known = int(np.count_nonzero(good)), int(np.count_nonzero(known))
        if not counted.any():
            return Goodput(None, None)
        span_s = result.end_s - float(result.requests["arrival_s"][counted].min())
        return Goodput(num_good / num_known if num_known else None, num_good / span_s if span_s > 0 else None)


def of_clients(clients: Sequence[Client]) -> tuple[Objective, ...]:
    """Return what classes of clients expect.

    Raises:
        ValueError: A name or a bound that is not allowed.
    """
    found: list[Objective] = []
    for client in clients:
        try:
            found += _objectives(client.slo, client.name)
        except ValueError as error:
            raise ValueError(f"clients.{client.name}.slo: {error}") from error
    return tuple(found)


def _objectives(bounds: Mapping[str, float | None], client: str | None = None) -> tuple[Objective, ...]:
    """Return the objectives; one without a bound is none."""
    found = {str(name): bound for name, bound in bounds.items() if bound is not None}
    return tuple(Objective(*_split(name), bound, client) for name, bound in found.items())


def _split(name: str) -> tuple[str, str]:
    for metric in METRICS:
        if name.startswith(f"{metric}_"):
            return metric, _DECIMAL.sub(r"\1.\2", name.removeprefix(f"{metric}_"))
    raise ValueError(f"{name} is not an objective: {METRIC_STATISTIC}")


def _late(objective: Objective, result: Result) -> NDArray[np.bool_]:
    """Whether each request misses the bound on its own: bool[num_requests]."""
    table, bound_s, statistic = result.requests, objective.bound_s, objective.statistic
    if objective.metric == "tbt" and statistic != "mean":
        above, every = result.gaps_above(bound_s)
        return np.asarray(above > _allowed(statistic, every))
    if objective.metric in ("tbt", "tpot"):
        gaps = table["output_tokens"] - 1
        decode_s = table["completed_s"] - table["first_token_s"]
        return np.asarray((gaps > 0) & (decode_s > bound_s * gaps))
    return np.asarray(_waited_s(objective.metric, result) > bound_s)


def _waited_s(metric: str, result: Result) -> NDArray[np.float64]:
    """How long each request waited for what ends a latency, or has waited so far: float64[num_requests]."""
    reached_s = result.requests[_REACHED[metric]]
    return np.asarray(np.where(np.isnan(reached_s), result.end_s, reached_s) - result.requests["arrival_s"])


def _allowed(statistic: str, every: Ints) -> Ints:
    """How many gaps of each request may be longer than the bound: int64[num_requests]."""
    if statistic == "max":
        return np.zeros_like(every)
    percentile = percentile_of(statistic)
    counts, inverse = np.unique(every, return_inverse=True)
    allowed = np.array([count - rank(percentile, count) for count in counts.tolist()], dtype=np.int64)
    return np.asarray(allowed[inverse])
