"""What every router is asked, and what it can see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from simulator.replica import Replica

NO_SESSION = -1


@dataclass(slots=True)
class ReplicaLoad:
    """A replica as a gateway knows it: what it is, what was sent there and came back, and the engine's own metrics.

    How many tokens an answer will have, how far a prefill is and what the scheduler plans stay unknown. A router
    reads it and changes nothing.

    Attributes:
        device: Name of its GPUs.
        num_gpus: GPUs that it has.
        num_routed: Requests sent there so far.
        num_requests: Requests sent there whose answer has not ended.
        num_tokens: Prompt tokens of those.
    """

    _replica: Replica
    device: str
    num_gpus: int
    num_routed: int = 0
    num_requests: int = 0
    num_tokens: int = 0

    @property
    def kv_used(self) -> float:
        """Share of the KV blocks that is held, as engines report it."""
        return 1 - self._replica.free_blocks / self._replica.num_blocks


@dataclass(slots=True)
class Arrival:
    """A request as a gateway knows it.

    Attributes:
        request: Its number in order of arrival, from 0.
        prompt_tokens: Tokens of its prompt.
        session: Number of the session that it belongs to; NO_SESSION: none.
        home: Replica of the request before it in its session; None: it is the first, or has no session.
    """

    request: int
    prompt_tokens: int
    session: int
    home: int | None


class Router(Protocol):
    """Chooses the replica of each arriving request. It changes nothing and keeps nothing."""

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        """Return the number of the replica that serves the request.

        Args:
            arrival: The request.
            loads: One per replica.
            random: Randomness of routing; one for the whole run, of its own.
        """
        ...


def least_requests(loads: Sequence[ReplicaLoad]) -> int:
    """Return the replica with the fewest outstanding requests; of several, the one that was sent the fewest."""
    return min(range(len(loads)), key=lambda one: (loads[one].num_requests, loads[one].num_routed))
