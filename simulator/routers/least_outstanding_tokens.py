"""Least outstanding tokens: the replica with the fewest outstanding prompt tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad


@dataclass(frozen=True)
class LeastOutstandingTokens:
    """The replica with the fewest prompt tokens of outstanding requests.

    Among equals, the one that was sent the fewest requests. Output tokens do not count: a gateway does not know how
    many there will be.
    """

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return min(range(len(loads)), key=lambda replica: (loads[replica].num_tokens, loads[replica].num_routed))
