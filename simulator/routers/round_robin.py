"""Round robin: each replica in turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad


@dataclass(frozen=True)
class RoundRobin:
    """The replicas in order, one request each, starting over after the last."""

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return arrival.request % len(loads)
