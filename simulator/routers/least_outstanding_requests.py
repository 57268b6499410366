"""Least outstanding requests: the replica with the fewest unfinished requests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad, pick_fewest_requests


@dataclass(frozen=True)
class LeastOutstandingRequests:
    """The replica with the fewest outstanding requests.

    Among equals, it is the one that was sent the fewest.
    """

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return pick_fewest_requests(loads)
