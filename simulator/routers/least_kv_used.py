"""Least KV used: where the smallest share of the KV cache is held."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad


@dataclass(frozen=True)
class LeastKVUsed:
    """The replica that holds the smallest share of its KV blocks; of several, the one with the fewest requests.

    The share is what engines report at this moment. Requests that wait in a replica hold no blocks yet.
    """

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return min(
            range(len(loads)), key=lambda one: (loads[one].kv_used, loads[one].num_requests, loads[one].num_routed)
        )
