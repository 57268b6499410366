"""Sticky: a session stays at the replica where it began."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad, pick_fewest_requests


@dataclass(frozen=True)
class Sticky:
    """The replica of the session's previous request.

    If there is none that is up, the one with the fewest outstanding requests.
    """

    needs_sessions: ClassVar[bool] = True

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return pick_fewest_requests(loads) if arrival.home is None else arrival.home
