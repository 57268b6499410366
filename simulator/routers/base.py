"""What every router answers."""

from collections.abc import Sequence
from typing import Protocol

from simulator.replica import Replica


class Router(Protocol):
    """Chooses the replica of each arriving request. It reads the replicas and changes nothing."""

    def route(self, request: int, replicas: Sequence[Replica]) -> int:
        """Return the index of the replica that serves the request."""
        ...
