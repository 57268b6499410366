"""The protocol of a router, and what a router sees."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from simulator.replica import Replica

NO_SESSION = -1


class ReplicaLoad:
    """A replica as a gateway sees it.

    Its hardware, its outstanding requests and the engine's metrics are known; output lengths, the progress of prefills
    and the scheduler's plans are not. A router reads a load and changes nothing.

    Attributes:
        device: Name of its GPUs.
        num_gpus: Number of its GPUs.
        num_routed: Requests sent there so far.
    """

    def __init__(
        self,
        replica: Replica | None,
        device: str,
        num_gpus: int,
        num_routed: int = 0,
        num_requests: int = 0,
        num_tokens: int = 0,
        catch_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Start with some requests.

        Args:
            replica: The replica; None: it is not simulated yet, and `catch_up` says so.
            device: Name of its GPUs.
            num_gpus: Number of its GPUs.
            num_routed: Requests sent there so far.
            num_requests: Outstanding requests.
            num_tokens: Prompt tokens of the outstanding requests.
            catch_up: Brings the replica up to the present. It is called only if a router looks at its state.
        """
        self.device = device
        self.num_gpus = num_gpus
        self.num_routed = num_routed
        self._replica = replica
        self._num_requests = num_requests
        self._num_tokens = num_tokens
        self._catch_up = catch_up

    @property
    def num_requests(self) -> int:
        """Outstanding requests: sent there and not ended."""
        self._catch_up()
        return self._num_requests

    @property
    def num_tokens(self) -> int:
        """Prompt tokens of the outstanding requests."""
        self._catch_up()
        return self._num_tokens

    @property
    def kv_used(self) -> float:
        """Share of the KV blocks in use, as engines report it."""
        self._catch_up()
        assert self._replica is not None
        return 1 - self._replica.kv.free_blocks / self._replica.kv.num_blocks

    def add(self, prompt_tokens: int) -> None:
        """Count a request that is sent there."""
        self.num_routed += 1
        self._num_requests += 1
        self._num_tokens += prompt_tokens

    def remove(self, num_requests: int, prompt_tokens: int) -> None:
        """Count requests that have left, with their prompt tokens in total."""
        self._num_requests -= num_requests
        self._num_tokens -= prompt_tokens


class Arrival:
    """A request as a gateway sees it.

    Attributes:
        request: Its number in order of arrival, from 0.
        prompt_tokens: Tokens of its prompt.
        session: Number of its session; NO_SESSION: none.
        home: Replica of the request before it in its session; None: it is the first, or has no session.
    """

    __slots__ = ("home", "prompt_tokens", "request", "session")

    def __init__(self, request: int, prompt_tokens: int, session: int, home: int | None) -> None:
        self.request = request
        self.prompt_tokens = prompt_tokens
        self.session = session
        self.home = home


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
