"""Power of two choices: the less loaded of two random replicas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad


@dataclass(frozen=True)
class PowerOfTwoChoices:
    """The less loaded of two different replicas drawn at random.

    It has fewer outstanding requests; if equal, it is the first drawn.

    Source: Mitzenmacher, IEEE Transactions on Parallel and Distributed Systems 2001.
    """

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        if len(loads) == 1:
            return 0
        first = int(random.integers(len(loads)))
        second = int(random.integers(len(loads) - 1))
        second += second >= first
        return second if loads[second].num_requests < loads[first].num_requests else first
