"""Round robin: each replica in turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad


@dataclass(frozen=True)
class RoundRobin:
    """The n-th request goes to the n-th replica, and after the last one to the first again."""

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return arrival.request % len(loads)
