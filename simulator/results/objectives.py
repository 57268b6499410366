"""Objectives: bounds on latencies of runs or requests, and on goodput."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.results.latency import Distribution, percentile_of
from simulator.results.result import Result
from simulator.results.status import FINISHED, IGNORED, UNFINISHED

METRICS = ("tbt", "ttft", "tpot", "e2e", "scheduling_delay")
# Latencies of which a request has one value.
REQUEST_METRICS = ("ttft", "tpot", "e2e")
GOODPUT = "goodput"
LONGEST_S = 1e6
# A bound on this percentile or a higher one also bounds each request.
TAIL = 90
# Configurations write p99_9 for p99.9, which would be two keys.
_DECIMAL = re.compile(r"^(p\d+)_(\d+)$")
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
        _check_seconds(self.name, self.bound_s)

    @property
    def name(self) -> str:
        """Name such as "ttft", or "chat.ttft" for a client class."""
        return _named(self.metric, self.client)

    @property
    def bounds_waiting(self) -> bool:
        """Whether it bounds the time that requests wait to be served."""
        return self.metric in _END_COLUMN

    def is_late(self, result: Result) -> NDArray[np.bool_]:
        """Return whether each request misses the bound: bool[num_requests]."""
        if self.metric in _END_COLUMN:
            late = _waited_s(self.metric, result) > self.bound_s
        else:
            table = result.requests
            gaps = table["output_tokens"] - 1
            late = (gaps > 0) & (table["completed_s"] - table["first_token_s"] > self.bound_s * gaps)
        return np.asarray(late & scope(result, self.client).counted)


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
        _check_seconds(self.name, self.bound_s)

    @property
    def name(self) -> str:
        """Name such as "tbt_p99", or "chat.tbt_p99" for a client class."""
        return _named(f"{self.metric}_{self.statistic}", self.client)

    @property
    def bound(self) -> float:
        """Upper bound, seconds."""
        return self.bound_s

    @property
    def bounds_waiting(self) -> bool:
        """Whether it bounds the time that requests wait to be served."""
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

        A request that is still waiting counts with its waiting time so far.
        """
        result = scope(result, self.client)
        if self.metric not in _END_COLUMN:
            return result.latencies[f"{self.metric}_s"].statistic(self.statistic)
        considered = result.counted & (result.status != IGNORED)
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
        min_share: Above 0 and at most 1.
        request_bounds: At least one.
        client: Name of the client class that it applies to; None: all requests.
    """

    min_share: float
    request_bounds: tuple[RequestBound, ...]
    client: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        share = self.min_share
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= 1:
            raise ValueError(f"{self.name} must be a share above 0 and up to 1, got {share!r}")
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
    def bound(self) -> float:
        """Lower bound of the share."""
        return self.min_share

    @property
    def bounds_waiting(self) -> bool:
        """Whether it bounds the time that requests wait to be served."""
        return any(bound.bounds_waiting for bound in self.request_bounds)

    def value(self, result: Result) -> float | None:
        """Return the share in a run; None: no request has an outcome."""
        return goodput_of(scope(result, self.client), self.request_bounds).share

    def excess(self, result: Result) -> float:
        """Return the ratio of bound to share; above 1: missed."""
        share = self.value(result)
        return self.min_share / share if share else np.inf


@dataclass(frozen=True)
class Goodput:
    """Requests that meet every bound on their own.

    Attributes:
        share: Their share of the requests whose outcome is known; None: there are none, or no bound.
        requests_per_s: Their number per second of the run; None: the run took no time, or no bound.
    """

    share: float | None
    requests_per_s: float | None


def goodput_of(result: Result, bounds: Sequence[RequestBound]) -> Goodput:
    """Return the share and rate of requests that meet every bound.

    They finished, with each of their own latencies within its bound. A request that the time limit cut off counts as
    missed if it is already late, else not at all.

    Source: Zhong et al., DistServe (OSDI 2024, arXiv:2401.09670), section 1.
    """
    counted, status = result.counted, result.status
    if not bounds or not counted.any():
        return Goodput(None, None)
    late = np.logical_or.reduce([bound.is_late(result) for bound in bounds])
    known = counted & ((status != UNFINISHED) | late)
    num_good = int(np.count_nonzero(counted & (status == FINISHED) & ~late))
    num_known = int(np.count_nonzero(known))
    span_s = result.end_s - float(result.requests["arrival_s"][counted].min())
    return Goodput(num_good / num_known if num_known else None, num_good / span_s if span_s > 0 else None)


@dataclass(frozen=True)
class Objectives:
    """Objectives as written, for a run or its client classes.

    Attributes:
        latencies: Bounds on latency statistics.
        goodputs: Bounds on goodput.
        requests: Bounds on each request, besides those that follow from `latencies`.
    """

    latencies: tuple[Objective, ...] = ()
    goodputs: tuple[GoodputObjective, ...] = ()
    requests: tuple[RequestBound, ...] = ()

    def __add__(self, other: "Objectives") -> "Objectives":
        """Return the objectives of both."""
        return Objectives(
            self.latencies + other.latencies, self.goodputs + other.goodputs, self.requests + other.requests
        )

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.latencies or self.goodputs or self.requests)


def parse_objectives(bounds: Mapping[str, float | None], client: str | None = None) -> Objectives:
    """Return objectives such as {"tbt_p99": 0.2, "ttft": 1, "goodput": 0.9}.

    Names without a bound are left out.

    Raises:
        ValueError: A name or a bound is not allowed.
    """
    given = {str(name): bound for name, bound in bounds.items() if bound is not None}
    min_share = given.pop(GOODPUT, None)
    requests = tuple(RequestBound(name, given.pop(name), client) for name in REQUEST_METRICS if name in given)
    latencies = tuple(Objective(*_split(name), bound, client) for name, bound in given.items())
    all_bounds = (*requests, *(bound for objective in latencies for bound in objective.request_bounds))
    goodputs = () if min_share is None else (GoodputObjective(min_share, all_bounds, client),)
    return Objectives(latencies, goodputs, requests)


def scope(result: Result, client: str | None) -> Result:
    """Return the run with the figures of a client class."""
    return result if client is None else result.of_client([known.name for known in result.clients].index(client))


def _split(name: str) -> tuple[str, str]:
    for metric in METRICS:
        if name.startswith(f"{metric}_"):
            return metric, _DECIMAL.sub(r"\1.\2", name.removeprefix(f"{metric}_"))
    raise ValueError(f"{name} is not an objective: {ALLOWED}")


def _named(name: str, client: str | None) -> str:
    return name if client is None else f"{client}.{name}"


def _check_seconds(name: str, bound: object) -> None:
    if not isinstance(bound, int | float) or isinstance(bound, bool) or not 0 < bound <= LONGEST_S:
        raise ValueError(f"{name} must be seconds above 0 and up to {LONGEST_S:g}, got {bound!r}")


def _waited_s(metric: str, result: Result) -> NDArray[np.float64]:
    """Return the latency of each request, or its waiting time so far.

    Returns:
        float64[num_requests], seconds.
    """
    end_s = result.requests[_END_COLUMN[metric]]
    return np.asarray(np.where(np.isnan(end_s), result.end_s, end_s) - result.requests["arrival_s"])
