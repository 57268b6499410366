"""Least outstanding tokens: where the prompts whose answers are still to come are shortest together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad


@dataclass(frozen=True)
class LeastOutstandingTokens:
    """The replica with the fewest prompt tokens of outstanding requests; of several, the one that was sent the fewest.

    Tokens of the answers play no part: a gateway does not know how many are to come.
    """

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return min(range(len(loads)), key=lambda one: (loads[one].num_tokens, loads[one].num_routed))
