"""Routing: which replica each request is sent to."""

from collections.abc import Sequence

import numpy as np

from simulator.routers import NO_SESSION, Arrival, ReplicaLoad, Router
from traces.shared.user_code import place_of

_INTEGERS = int, np.integer


class Routing:
    """Choice among the replicas that are up.

    It is the only caller of the router.
    """

    def __init__(
        self,
        router: Router,
        loads: Sequence[ReplicaLoad],
        random: np.random.Generator,
        sessions: Sequence[int] | None = None,
    ) -> None:
        """Start with all replicas up.

        Args:
            router: Routing policy.
            loads: Load of each replica.
            random: Random generator of the router.
            sessions: Session of each request, NO_SESSION for none; None: there are no sessions.
        """
        self._router = router
        self._random = random
        self._loads = loads
        self._sessions = sessions
        self._session_replicas: dict[int, int] = {}
        self._num_arrived = 0
        # Numbers and loads of the replicas that are up, and the position of each replica among them.
        self._up = list(range(len(loads)))
        self._loads_up = list(loads)
        self._positions = {replica: replica for replica in self._up}

    def choose(self, request: int, prompt_tokens: int) -> int:
        """Return the replica of an arriving request.

        The router sees only the replicas that are up, at least one, numbered from 0.

        Raises:
            ValueError: The router chooses a replica that does not exist.
        """
        session = NO_SESSION if self._sessions is None else self._sessions[request]
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
        return replica

    def mark_replica(self, replica: int, is_up: bool) -> None:
        """Mark a replica as up or down."""
        self._up = sorted({*self._up, replica} if is_up else {*self._up} - {replica})
        self._loads_up = [self._loads[number] for number in self._up]
        self._positions = {number: position for position, number in enumerate(self._up)}

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
