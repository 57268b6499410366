"""Least outstanding requests: where the fewest answers are still to come."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad, least_requests


@dataclass(frozen=True)
class LeastOutstandingRequests:
    """The replica with the fewest outstanding requests; of several, the one that was sent the fewest."""

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return least_requests(loads)
