"""Renewal processes, constant gaps and recorded arrival times.

A gap is the time between two arrivals. Unless stated otherwise, the first gap comes before the first request.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from traces.shared.value_checks import integer, number, quantile_levels
from traces.trace import MOST_CONCURRENT, Trace

Floats = NDArray[np.float64]


def require_rate(qps: float, *, may_be_infinite: bool = False) -> None:
    """Check a rate in requests per second.

    Args:
        qps: The rate.
        may_be_infinite: Whether all requests may arrive at once.

    Raises:
        ValueError: It is not a number from 1e-6 to 1e9.
    """
    if not may_be_infinite:
        number("qps", qps, 1e-6, 1e9)
    elif qps != math.inf:
        number("qps", qps, 1e-6, 1e9, also=", or inf")


def require_limit(max_concurrency: int | None) -> None:
    """Check a limit on the requests in flight; None: there is none."""
    integer("max_concurrency", max_concurrency, 1, MOST_CONCURRENT, optional=True)


def gamma_gaps(cv: float, count: int, rng: np.random.Generator) -> Floats:
    """Draw gamma-distributed gaps of mean 1, float64[count]; with cv=0 all are 1."""
    return np.ones(count) if cv == 0 else rng.gamma(cv**-2, cv**2, count)


@dataclass(frozen=True)
class Poisson:
    """A Poisson process: independent, exponentially distributed gaps.

    Attributes:
        qps: Mean rate, requests per second; inf: all arrive at 0.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    qps: float
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        require_rate(self.qps, may_be_infinite=True)
        require_limit(self.max_concurrency)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        arrival_s = np.cumsum(rng.exponential(1 / self.qps, len(trace)))
        return trace.arriving(arrival_s, max_concurrency=self.max_concurrency)


@dataclass(frozen=True)
class Gamma:
    """A renewal process with gamma-distributed gaps.

    Attributes:
        qps: Mean rate, requests per second; inf: all arrive at 0.
        cv: Coefficient of variation of the gaps: 1 for a Poisson process, above 1 for burstier arrivals.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    qps: float
    cv: float
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_rate(self.qps, may_be_infinite=True)
        require_limit(self.max_concurrency)
        number("cv", self.cv, 0.01, 100)

    def times_s(self, count: int, rng: np.random.Generator) -> Floats:
        """Draw arrival times: float64[count]."""
        return np.cumsum(gamma_gaps(self.cv, count, rng)) / self.qps

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        return trace.arriving(self.times_s(len(trace), rng), max_concurrency=self.max_concurrency)


@dataclass(frozen=True)
class Weibull:
    """A renewal process with Weibull-distributed gaps.

    Attributes:
        qps: Mean rate, requests per second; inf: all arrive at 0.
        cv: Coefficient of variation of the gaps: 1 for a Poisson process, above 1 for burstier arrivals.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    qps: float
    cv: float
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_rate(self.qps, may_be_infinite=True)
        require_limit(self.max_concurrency)
        number("cv", self.cv, 0.01, 100)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        shape = weibull_shape(self.cv)
        gaps = rng.weibull(shape, len(trace)) / (self.qps * math.gamma(1 + 1 / shape))
        return trace.arriving(np.cumsum(gaps), max_concurrency=self.max_concurrency)


@cache
def weibull_shape(cv: float) -> float:
    """Return the shape parameter of a Weibull distribution.

    Args:
        cv: Coefficient of variation, 0.01 to 100.
    """
    # The import takes a third of a second, which other processes need not pay.
    from scipy.optimize import brentq

    def excess(log_shape: float) -> float:
        inverse = math.exp(-log_shape)
        return math.lgamma(1 + 2 * inverse) - 2 * math.lgamma(1 + inverse) - math.log1p(cv**2)

    return math.exp(brentq(excess, math.log(0.05), math.log(200)))


@dataclass(frozen=True)
class Renewal:
    """A renewal process with gaps of any distribution.

    Attributes:
        qps: Mean rate, requests per second; inf: all arrive at 0.
        gaps: Quantiles of the gaps on any scale, not decreasing; the distribution is linear between them.
        levels: Levels of these quantiles, increasing from 0 to 1; None: equally spaced.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    qps: float
    gaps: Sequence[float]
    levels: Sequence[float] | None = None
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_rate(self.qps, may_be_infinite=True)
        require_limit(self.max_concurrency)
        if len(self.gaps) < 2 or self.gaps[0] < 0 or np.any(np.diff(self.gaps) < 0) or not 0 < self.gaps[-1] < math.inf:
            raise ValueError("gaps must be at least 2 numbers of at least 0, not decreasing, the last above 0")
        quantile_levels(self.levels, len(self.gaps))

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        gaps = np.array(self.gaps, dtype=np.float64)
        levels = np.linspace(0, 1, len(gaps)) if self.levels is None else np.array(self.levels, dtype=np.float64)
        mean = np.sum(np.diff(levels) * (gaps[1:] + gaps[:-1]) / 2)
        drawn = np.interp(rng.random(len(trace)), levels, gaps)
        return trace.arriving(np.cumsum(drawn / (mean * self.qps)), max_concurrency=self.max_concurrency)


@dataclass(frozen=True)
class Constant:
    """Equal gaps; the first request arrives at time 0.

    Attributes:
        qps: Rate, requests per second; inf: all arrive at 0.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    qps: float
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        require_rate(self.qps, may_be_infinite=True)
        require_limit(self.max_concurrency)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        return trace.arriving(np.arange(len(trace)) / self.qps, max_concurrency=self.max_concurrency)


@dataclass(frozen=True)
class Recorded:
    """The arrival times of the trace, optionally sped up or slowed down.

    Think times are unchanged.

    Attributes:
        speed: Factor of the rate; 2 halves every gap.
        qps: Mean rate from the first to the last arrival, requests per second, instead of a speed; None: use `speed`.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    keeps_times: ClassVar = True

    speed: float = 1.0
    qps: float | None = None
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        number("speed", self.speed, 1e-9, 1e9)
        require_limit(self.max_concurrency)
        if self.qps is not None:
            require_rate(self.qps)
            if self.speed != 1:
                raise ValueError(f"speed and qps cannot both be given, got {self.speed!r} and {self.qps!r}")

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with its times divided by the speed.

        Raises:
            ValueError: The trace has no arrival times, or all are equal, so that no rate can be set.
        """
        if trace.arrival_s is None:
            raise ValueError("arrival=trace needs a trace with arrival times (a column arrival_s); this one has none")
        speed = self.speed
        if self.qps is not None:
            known_s = trace.arrival_s[~np.isnan(trace.arrival_s)]
            span_s = float(known_s[-1] - known_s[0]) if len(known_s) else 0.0
            if span_s == 0:
                raise ValueError("qps needs a trace of requests that arrive at different times")
            # One gap for each request after the first, also for requests that wait.
            speed = self.qps * span_s / max(1, len(trace) - 1)
        return trace.arriving(trace.arrival_s / speed, trace.think_s, self.max_concurrency)
