"""Objectives: bounds on latencies of runs or requests, and on goodput."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.results.latency import Distribution, percentile_of
from simulator.results.result import Result
from simulator.results.status import FINISHED, IGNORED, UNFINISHED
from traces.shared.value_checks import number

METRICS = ("tbt", "ttft", "tpot", "e2e", "scheduling_delay")
# Latencies of which a request has one value.
REQUEST_METRICS = ("ttft", "tpot", "e2e")
GOODPUT = "goodput"
LONGEST_S = 1e6
# A bound on this percentile or a higher one also bounds each request.
TAIL = 90
# The event that ends each latency.
_END_COLUMN = {"ttft": "first_token_s", "e2e": "completed_s", "scheduling_delay": "first_scheduled_s"}

ALLOWED = (
    f"write METRIC_STATISTIC=SECONDS with a metric of {', '.join(METRICS)} "
    "and a statistic of mean, max or a percentile such as p50, p99, p99.9; "
    f"METRIC=SECONDS with {', '.join(REQUEST_METRICS)} for each request; or {GOODPUT}=SHARE"
)


@dataclass(frozen=True)
class RequestBound:
    """Bound on a latency of each request, such as 0.5 s TTFT.

    Attributes:
        metric: One of REQUEST_METRICS.
        bound_s: Upper bound, seconds.
        client: Name of the client class that it applies to; None: all requests.
    """

    metric: str
    bound_s: float
    client: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.metric not in REQUEST_METRICS:
            raise ValueError(f"{self.metric} is not an objective: {ALLOWED}")
        number(self.name, self.bound_s, 0, LONGEST_S, " seconds", excluding="low")

    @property
    def name(self) -> str:
        """Name such as "ttft", or "chat.ttft" for a client class."""
        return _named(self.metric, self.client)

    def is_late(self, result: Result) -> NDArray[np.bool_]:
        """Return whether each request misses the bound: bool[num_requests]."""
        if self.metric in _END_COLUMN:
            late = _waited_s(self.metric, result) > self.bound_s
        else:
            table = result.requests
            gaps = table["output_tokens"] - 1
            late = (gaps > 0) & (table["completed_s"] - table["first_token_s"] > self.bound_s * gaps)
        return np.asarray(late & scope(result, self.client).counted)

    def deadline_s(self, result: Result) -> NDArray[np.float64]:
        """Return when each request must have met the bound: float64[num_requests].

        NaN: unknown, as the request has no first token.
        """
        table = result.requests
        if self.metric in _END_COLUMN:
            deadline_s = table["arrival_s"] + self.bound_s
        else:
            deadline_s = table["first_token_s"] + self.bound_s * (table["output_tokens"] - 1)
        return np.where(scope(result, self.client).counted, deadline_s, -np.inf)


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
            raise ValueError(f"{self.metric}_{self.statistic} is not an objective: {ALLOWED}")
        if self.statistic not in ("mean", "max"):
            try:
                percentile_of(self.statistic)
            except ValueError:
                raise ValueError(f"{self.name} is not an objective: {ALLOWED}") from None
        number(self.name, self.bound_s, 0, LONGEST_S, " seconds", excluding="low")

    @property
    def name(self) -> str:
        """Name such as "tbt_p99", or "chat.tbt_p99" for a client class."""
        return _named(f"{self.metric}_{self.statistic}", self.client)

    @property
    def bound(self) -> float:
        """Upper bound, seconds."""
        return self.bound_s

    @property
    def needs_deadline(self) -> bool:
        """Whether a run must last until outcomes are known."""
        return self.metric in _END_COLUMN

    @property
    def request_bounds(self) -> tuple[RequestBound, ...]:
        """The same bound on each request, if it bounds single requests.

        A mean, a median or a percentile of all token gaps does not.
        """
        is_tail = self.statistic == "max" or (self.statistic != "mean" and percentile_of(self.statistic) >= TAIL)
        if self.metric not in REQUEST_METRICS or not is_tail:
            return ()
        return (RequestBound(self.metric, self.bound_s, self.client),)

    def value(self, result: Result) -> float | None:
        """Return the value in a run, in seconds; None: nothing to measure.

        Of a run that the time limit cut off, the requests count that arrived at least the bound before its end, those
        that still wait with their waiting time so far: all of them are known to be within the bound or not.
        """
        result = scope(result, self.client)
        if self.metric not in _END_COLUMN:
            return result.latencies[f"{self.metric}_s"].statistic(self.statistic)
        considered = result.counted & (result.status != IGNORED)
        if is_cut_off(result):
            considered &= result.requests["arrival_s"] <= result.end_s - self.bound_s
        return Distribution(_waited_s(self.metric, result)[considered]).statistic(self.statistic)

    def excess(self, result: Result) -> float:
        """Return the ratio of value to bound; above 1: missed.

        A latency without a value is missed, unless there were requests and all finished.
        """
        value, counted = self.value(result), scope(result, self.client).counted
        if value is not None:
            return value / self.bound_s
        return 0.0 if counted.any() and (result.status[counted] == FINISHED).all() else np.inf


@dataclass(frozen=True)
class GoodputObjective:
    """Lowest share of requests that meet every bound on their own.

    Attributes:
        bound: Lowest share, above 0 and at most 1.
        request_bounds: At least one.
        client: Name of the client class that it applies to; None: all requests.
    """

    bound: float
    request_bounds: tuple[RequestBound, ...]
    client: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        number(self.name, self.bound, 0, 1, excluding="low")
        if not self.request_bounds:
            raise ValueError(
                f"{self.name} needs a bound on each request: {', '.join(REQUEST_METRICS)} or a percentile of these "
                f"from p{TAIL} on"
            )

    @property
    def name(self) -> str:
        """Name: "goodput", or "chat.goodput" for a client class."""
        return _named(GOODPUT, self.client)

    @property
    def needs_deadline(self) -> bool:
        """Whether a run must last until outcomes are known."""
        return True

    def value(self, result: Result) -> float | None:
        """Return the share in a run; None: no request has an outcome."""
        return goodput_of(scope(result, self.client), self.request_bounds).share

    def excess(self, result: Result) -> float:
        """Return the ratio of bound to share; above 1: missed."""
        share = self.value(result)
        return self.bound / share if share else np.inf


@dataclass(frozen=True)
class Goodput:
    """Requests that meet every bound on their own.

    Attributes:
        num_good: Their number.
        num_judged: Number of requests that are judged.
    """

    num_good: int = 0
    num_judged: int = 0

    @property
    def share(self) -> float | None:
        """Share of good requests; None: none was judged."""
        return self.num_good / self.num_judged if self.num_judged else None


def goodput_of(result: Result, bounds: Sequence[RequestBound]) -> Goodput:
    """Return how many requests meet every bound.

    They finished, with each of their own latencies within its bound. Of a run that the time limit cut off, the
    requests are judged whose deadlines had passed, whether they met them or not.

    Source: Zhong et al., DistServe (OSDI 2024, arXiv:2401.09670), section 1.
    """
    judged = result.counted.copy()
    if not bounds:
        return Goodput()
    if is_cut_off(result):
        deadlines_s = np.max([bound.deadline_s(result) for bound in bounds], axis=0)
        judged &= deadlines_s <= result.end_s
    late = np.logical_or.reduce([bound.is_late(result) for bound in bounds])
    num_good = int(np.count_nonzero(judged & (result.status == FINISHED) & ~late))
    return Goodput(num_good, int(np.count_nonzero(judged)))


def is_cut_off(result: Result) -> bool:
    """Return whether the time limit cut off requests."""
    return bool((result.counted & (result.status == UNFINISHED)).any())


def scope(result: Result, client: str | None) -> Result:
    """Return the run with the figures of a client class."""
    return result if client is None else result.of_client([known.name for known in result.clients].index(client))


def _named(name: str, client: str | None) -> str:
    return name if client is None else f"{client}.{name}"


def _waited_s(metric: str, result: Result) -> NDArray[np.float64]:
    """Return the latency of each request, or its waiting time so far.

    Returns:
        float64[num_requests], seconds.
    """
    end_s = result.requests[_END_COLUMN[metric]]
    return np.asarray(np.where(np.isnan(end_s), result.end_s, end_s) - result.requests["arrival_s"])
