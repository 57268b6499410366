"""Random: any replica, each as likely."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.routers.base import Arrival, ReplicaLoad


@dataclass(frozen=True)
class Random:
    """Every replica is as likely for every request."""

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request."""
        return int(random.integers(len(loads)))
