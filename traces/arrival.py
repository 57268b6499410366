"""Arrival processes."""

from dataclasses import dataclass, replace

import numpy as np

from traces.trace import Trace


def _require_rate(qps: float) -> None:
    if not isinstance(qps, int | float) or isinstance(qps, bool) or not 1e-6 <= qps <= 1e9:
        raise ValueError(f"qps must be a number from 1e-6 to 1e9, got {qps!r}")


@dataclass(frozen=True)
class Poisson:
    """Independent, exponentially distributed gaps; the first one before the first request.

    Attributes:
        qps: Requests per second in the mean.
    """

    qps: float

    def __post_init__(self) -> None:
        """Check the range."""
        _require_rate(self.qps)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        return replace(trace, arrival_s=np.cumsum(rng.exponential(1 / self.qps, len(trace))))


@dataclass(frozen=True)
class Constant:
    """Equal gaps; the first request arrives at time 0.

    Attributes:
        qps: Requests per second.
    """

    qps: float

    def __post_init__(self) -> None:
        """Check the range."""
        _require_rate(self.qps)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        return replace(trace, arrival_s=np.arange(len(trace)) / self.qps)


@dataclass(frozen=True)
class Recorded:
    """The arrival times that the trace brings along."""

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace as it is.

        Raises:
            ValueError: It has no arrival times.
        """
        if trace.arrival_s is None:
            raise ValueError("arrival=trace needs a trace with arrival times (a column arrival_s); this one has none")
        return trace
