"""The gateway: routes arriving requests and logs their stays at replicas."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from simulator.cluster.routing import Routing
from simulator.log import NO_REPLICA, StayEnd, StayLog
from simulator.replica import RequestTable
from simulator.routers import ReplicaLoad, Router


class Gateway:
    """Entry point of all requests.

    Attributes:
        routing: Choice of a replica for each request.
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
        self.routing = Routing(router, loads, random, sessions)
        self.stays = StayLog(len(requests.engine_arrival_s))
        self.queue: deque[int] = deque()
        self._requests = requests
        # A copy: a preempted request has more to prefill than when it was sent, and the gateway does not know.
        self._prompt_tokens = list(requests.known_tokens)
        self._loads = loads

    def send(self, request: int, now_s: float) -> int:
        """Route an arriving request, or queue it while no replica is up.

        Returns:
            Number of the replica; NO_REPLICA: the request is queued.

        Raises:
            ValueError: The router chooses a replica that does not exist.
        """
        if not self.routing.has_replica_up:
            self.queue.append(request)
            return NO_REPLICA
        prompt_tokens = self._prompt_tokens[request] = self._requests.known_tokens[request]
        replica = self.routing.choose(request, prompt_tokens)
        self._loads[replica].add(prompt_tokens)
        self._requests.engine_arrival_s[request] = now_s
        self.stays.begin(request, replica, now_s)
        return replica

    def end(self, replica: int, requests: Sequence[int], now_s: float, why: StayEnd, was_running: bool) -> None:
        """End the stays of requests at a replica."""
        self.stays.end(requests, now_s, why, was_running)
        self._loads[replica].remove(len(requests), sum(map(self._prompt_tokens.__getitem__, requests)))
