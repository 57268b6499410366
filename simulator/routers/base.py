"""The protocol of a router, and what a router sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from simulator.replica import Replica

NO_SESSION = -1


@dataclass(slots=True)
class ReplicaLoad:
    """A replica as a gateway sees it.

    Its hardware, its outstanding requests and the engine's metrics are known; output lengths, the progress of prefills
    and the scheduler's plans are not. A router reads a load and changes nothing.

    Attributes:
        device: Name of its GPUs.
        num_gpus: Number of its GPUs.
        num_routed: Requests sent there so far.
        num_requests: Outstanding requests: sent there and not ended.
        num_tokens: Prompt tokens of the outstanding requests.
    """

    _replica: Replica
    device: str
    num_gpus: int
    num_routed: int = 0
    num_requests: int = 0
    num_tokens: int = 0

    @property
    def kv_used(self) -> float:
        """Share of the KV blocks in use, as engines report it."""
        return 1 - self._replica.kv.free_blocks / self._replica.kv.num_blocks


@dataclass(slots=True)
class Arrival:
    """A request as a gateway sees it.

    Attributes:
        request: Its number in order of arrival, from 0.
        prompt_tokens: Tokens of its prompt.
        session: Number of its session; NO_SESSION: none.
        home: Replica of the request before it in its session; None: it is the first, or has no session.
    """

    request: int
    prompt_tokens: int
    session: int
    home: int | None


class Router(Protocol):
    """Policy that chooses a replica for each arriving request.

    A router changes nothing and keeps no state.
    """

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request.

        Args:
            arrival: The request.
            loads: One per replica.
            random: Generator for routing alone; the same one throughout a simulation.
        """
        ...


def pick_fewest_requests(loads: Sequence[ReplicaLoad]) -> int:
    """Return the replica with the fewest outstanding requests.

    Among equals, it is the one that was sent the fewest.
    """
    return min(range(len(loads)), key=lambda replica: (loads[replica].num_requests, loads[replica].num_routed))
