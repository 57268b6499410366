"""Sticky: a session stays where it began."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad, least_requests


@dataclass(frozen=True)
class Sticky:
    """A request follows the one before it in its session; others go where the fewest answers are still to come."""

    needs_sessions: ClassVar[bool] = True

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return least_requests(loads) if arrival.home is None else arrival.home
