"""The gateway: routes arriving requests and logs their stays at replicas."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from simulator.log import NO_REPLICA, StayEnd, StayLog
from simulator.replica import RequestTable
from simulator.routers import NO_SESSION, Arrival, ReplicaLoad, Router
from traces.shared.user_code import place_of

_INTEGERS = int, np.integer


class Gateway:
    """Entry point of all requests, and the only caller of the router.

    Attributes:
        stays: Stays of requests at replicas so far.
        queue: Requests that wait for a replica to come up, in order of arrival.
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
            loads: Load of each replica, with nothing outstanding.
            router: Routing policy.
            random: Random generator of the router.
        """
        self.stays = StayLog(requests.engine_arrival_s)
        self._requests = requests
        self._num_arrived = 0
        # A copy: a preempted request has more to prefill than when it was sent, and the gateway does not know.
        self._prompt_tokens = list(requests.known_tokens)
        self._sessions = sessions
        self._session_replicas: dict[int, int] = {}
        self._loads = loads
        # Numbers and loads of the replicas that are up, and the position of each replica among them.
        self._up = list(range(len(loads)))
        self._loads_up = list(loads)
        self._positions = {replica: replica for replica in self._up}
        self.queue: deque[int] = deque()
        self._router = router
        self._random = random

    def send(self, request: int, now_s: float) -> int:
        """Route an arriving request, or queue it while no replica is up.

        The router sees only the replicas that are up, numbered from 0.

        Returns:
            Number of the replica; NO_REPLICA: the request is queued.

        Raises:
            ValueError: The router chooses a replica that does not exist.
        """
        session = NO_SESSION if self._sessions is None else self._sessions[request]
        if not self._up:
            self.queue.append(request)
            return NO_REPLICA
        prompt_tokens = self._prompt_tokens[request] = self._requests.known_tokens[request]
        arrival = Arrival(self._num_arrived, prompt_tokens, session, self._home_of(session))
        self._num_arrived += 1
        position = self._router.route(arrival, self._loads_up, self._random)
        if not isinstance(position, _INTEGERS) or not 0 <= position < len(self._up):
            router = type(self._router)
            raise ValueError(
                f"{place_of(router.route)}: {router.__name__}.route chose replica {position!r}; there are 0 to "
                f"{len(self._up) - 1}"
            )
        replica = self._up[position]
        if session != NO_SESSION:
            self._session_replicas[session] = replica
        self._loads[replica].add(prompt_tokens)
        self._requests.engine_arrival_s[request] = now_s
        self.stays.begin(request, replica)
        return replica

    def end(self, replica: int, requests: Sequence[int], now_s: float, why: StayEnd, was_running: bool) -> None:
        """End the stays of requests at a replica."""
        self.stays.end(requests, now_s, why, was_running)
        self._loads[replica].remove(len(requests), sum(map(self._prompt_tokens.__getitem__, requests)))

    def mark_replica(self, replica: int, is_up: bool) -> None:
        """Mark a replica as up or down."""
        self._up = sorted({*self._up, replica} if is_up else {*self._up} - {replica})
        self._loads_up = [self._loads[number] for number in self._up]
        self._positions = {number: position for position, number in enumerate(self._up)}

    def is_up(self, replica: int) -> bool:
        """Return whether a replica is up."""
        return replica in self._positions

    @property
    def has_replica_up(self) -> bool:
        """Whether any replica is up."""
        return bool(self._up)

    def _home_of(self, session: int) -> int | None:
        """Return the position of a session's replica among those that are up.

        Returns None if the session has no replica or its replica is down.
        """
        replica = self._session_replicas.get(session)
        return None if replica is None else self._positions.get(replica)
