"""A workload: a request source, an arrival process, and random streams."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from traces.base import Arrivals, Source
from traces.shared.warnings import Warning
from traces.trace import Trace

# Random streams by purpose; a purpose keeps its stream when others are added.
LENGTHS, ARRIVALS, ROUTING, FAULTS = range(4)
IGNORES_TIMES = Warning("times_unused", "arrival times of the file are not used; arrival=trace replays them")


@dataclass(frozen=True)
class Workload:
    """Requests and their arrival process, before a seed is chosen.

    Attributes:
        source: Where the requests come from.
        arrivals: How they arrive.
    """

    source: Source
    arrivals: Arrivals

    def __post_init__(self) -> None:
        """Check that source and arrival process are compatible.

        Raises:
            ValueError: The source sets arrival times, and the process would replace them.
        """
        if getattr(self.source, "sets_arrivals", False) and not getattr(self.arrivals, "keeps_times", False):
            raise ValueError(
                f"{type(self.source).__name__} has arrivals of its own, so it needs arrival=trace; "
                f"{type(self.arrivals).__name__} would replace them"
            )

    def requests(self, seed: int) -> Trace:
        """Return the requests, without arrival times or with those of the source.

        Raises:
            ValueError: The requests cannot be read.
        """
        return self.source.load(np.random.default_rng([seed, LENGTHS]))

    def trace(self, seed: int, requests: Trace | None = None) -> Trace:
        """Return the requests with arrival times.

        Args:
            seed: The same seed gives the same requests, and inter-arrival times that scale with the rate (see
                `Arrivals`).
            requests: What `requests` returned for this seed; None: load them.

        Raises:
            ValueError: The requests cannot be read, or lack what the arrival process needs.
        """
        trace = self.requests(seed) if requests is None else requests
        arriving = self.arrivals.assign(trace, np.random.default_rng([seed, ARRIVALS]))
        if trace.arrival_s is None or getattr(self.arrivals, "keeps_times", False):
            return arriving
        return replace(arriving, notes=(*arriving.notes, IGNORES_TIMES))

    def at(self, qps: float) -> "Workload":
        """Return the same workload at another rate.

        Raises:
            ValueError: The arrival process has no rate, or a limit on the requests in flight sets it.
        """
        values = {field.name: getattr(self.arrivals, field.name) for field in fields(self.arrivals)}
        if "qps" not in values:
            raise ValueError(f"{type(self.arrivals).__name__} has no rate that could be changed (a field qps)")
        if values.get("max_concurrency") is not None:
            raise ValueError(
                "max_concurrency limits the rate at which requests are sent, so none is to be found; set it to null"
            )
        changed: Any = {"qps": qps}
        return replace(self, arrivals=replace(self.arrivals, **changed))
