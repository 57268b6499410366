"""Least KV used: the replica with the lowest KV cache utilization."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad


@dataclass(frozen=True)
class LeastKVUsed:
    """The replica with the smallest share of its KV blocks in use.

    Among equals, the one with the fewest outstanding requests, then the one that was sent the fewest. The share is
    what engines report at this moment; requests that wait at a replica have no blocks yet.
    """

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return min(
            range(len(loads)),
            key=lambda replica: (loads[replica].kv_used, loads[replica].num_requests, loads[replica].num_routed),
        )
