"""Sends each arriving request to a replica and keeps account of what is outstanding where."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from simulator.log import NO_REPLICA
from simulator.replica import RequestTable
from simulator.routers import NO_SESSION, Arrival, ReplicaLoad, Router


class Gateway:
    """The only one who asks the router.

    Attributes:
        assigned: list[int], replica of each request, the last one; NO_REPLICA: it has not been sent to any.
        held: Requests that arrived while no replica was up, the first one first.
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
        self._prompt_tokens = list(requests.known_tokens)
        self._sessions = sessions
        self._homes: dict[int, int] = {}
        self._loads = loads
        # Of the replicas that are up: their numbers and loads, and by number the place among them.
        self._up = list(range(len(loads)))
        self._loads_up = list(loads)
        self._places = {replica: replica for replica in self._up}
        self.held: deque[int] = deque()
        self._router = router
        self._random = random

    def send(self, request: int) -> int:
        """Return the replica that gets a request, which arrives now; NO_REPLICA: it is held until one is up.

        The router sees the replicas that are up, counted from 0.

        Raises:
            RuntimeError: The router names a replica that does not exist.
        """
        session = NO_SESSION if self._sessions is None else self._sessions[request]
        if not self._up:
            self.held.append(request)
            return NO_REPLICA
        prompt_tokens = self._prompt_tokens[request]
        arrival = Arrival(self._num_arrived, prompt_tokens, session, self._home_of(session))
        self._num_arrived += 1
        place = self._router.route(arrival, self._loads_up, self._random)
        if not isinstance(place, int) or not 0 <= place < len(self._up):
            raise RuntimeError(f"the router chose replica {place!r}; there are 0 to {len(self._up) - 1}")
        chosen = self._up[place]
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

    def take_back(self, request: int, prompt_tokens: int) -> None:
        """Note that a request is to be sent once more, with so many tokens of prompt."""
        self._prompt_tokens[request] = prompt_tokens
        self.assigned[request] = NO_REPLICA

    def set_up(self, replica: int, is_up: bool) -> None:
        """Note that a replica takes requests, or no longer."""
        self._up = sorted({*self._up, replica} if is_up else {*self._up} - {replica})
        self._loads_up = [self._loads[one] for one in self._up]
        self._places = {one: place for place, one in enumerate(self._up)}

    @property
    def any_up(self) -> bool:
        """Whether any replica takes requests."""
        return bool(self._up)

    def _home_of(self, session: int) -> int | None:
        """Place of a session's replica among those that are up."""
        home = self._homes.get(session)
        return None if home is None else self._places.get(home)
