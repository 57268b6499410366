"""Round robin: each replica in turn."""

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.replica import Replica


@dataclass(frozen=True)
class RoundRobin:
    """The n-th request goes to the n-th replica, and after the last one to the first again."""

    def route(self, request: int, replicas: Sequence[Replica]) -> int:
        """Return the index of the replica that serves the request."""
        return request % len(replicas)
