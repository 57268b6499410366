"""Sends each arriving request to a replica and keeps account of what is outstanding where."""

from collections.abc import Sequence

import numpy as np

from simulator.request_table import RequestTable
from simulator.routers.base import NO_SESSION, Arrival, ReplicaLoad, Router

NO_REPLICA = -1


class Gateway:
    """The only one who asks the router.

    Attributes:
        assigned: list[int], replica of each request; NO_REPLICA: it has not arrived.
    """

    def __init__(
        self,
        requests: RequestTable,
        sessions: Sequence[int] | None,
        loads: Sequence[ReplicaLoad],
        router: Router,
        random: np.random.Generator,
    ) -> None:
        """Start with nothing outstanding.

        Args:
            requests: All requests, in order of arrival.
            sessions: Session of each request, NO_SESSION for none; None: there are no sessions.
            loads: One per replica, with nothing outstanding.
            router: The policy.
            random: Randomness of routing.
        """
        self.assigned = [NO_REPLICA] * len(requests.arrival_s)
        self._num_arrived = 0
        # A preempted request has more to prefill than its prompt; the gateway knows the prompt.
        self._prompt_tokens = list(requests.prefill_tokens)
        self._sessions = sessions
        self._homes: dict[int, int] = {}
        self._loads = loads
        self._router = router
        self._random = random

    def send(self, request: int) -> int:
        """Return the replica that gets a request, which arrives now.

        Raises:
            RuntimeError: The router names a replica that does not exist.
        """
        session = NO_SESSION if self._sessions is None else self._sessions[request]
        prompt_tokens = self._prompt_tokens[request]
        arrival = Arrival(self._num_arrived, prompt_tokens, session, self._homes.get(session))
        self._num_arrived += 1
        chosen = self._router.route(arrival, self._loads, self._random)
        if not isinstance(chosen, int) or not 0 <= chosen < len(self._loads):
            raise RuntimeError(f"the router chose replica {chosen!r}; there are 0 to {len(self._loads) - 1}")
        if session != NO_SESSION:
            self._homes[session] = chosen
        load = self._loads[chosen]
        load.num_routed += 1
        load.num_requests += 1
        load.num_tokens += prompt_tokens
        self.assigned[request] = chosen
        return chosen

    def end(self, replica: int, requests: Sequence[int]) -> None:
        """Note that the answers of some requests have ended, or that they were refused."""
        load = self._loads[replica]
        load.num_requests -= len(requests)
        load.num_tokens -= sum(map(self._prompt_tokens.__getitem__, requests))
