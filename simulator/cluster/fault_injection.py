"""Fault injection during a run.

Replicas go down and come back, requests are sent again, and iterations or messages slow down.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial

from simpy.events import Event

from simulator.cluster.faults import LOSE, RESTART, Faults
from simulator.cluster.front_end import FrontEnd
from simulator.cluster.gateway import Gateway
from simulator.engine import FAULT, Clock, ReplicaRun
from simulator.iteration_time import StageTimes
from simulator.log import FAILURE, NETWORK, FaultSpan, StayEnd
from simulator.replica import Batch, RequestTable, cached_tokens


class DegradedTimes(StageTimes):
    """Stage times of a replica with slowdown and network faults."""

    def __init__(self, normal: StageTimes, slow_network_times: Callable[[float], StageTimes]) -> None:
        """Start without faults.

        Args:
            normal: Stage times without faults.
            slow_network_times: Returns the stage times for a factor on the time of messages between the GPUs.
        """
        super().__init__()
        self._normal = normal
        self._times = normal
        self._slow_network_times = slow_network_times
        self._slowdown = 1.0

    def of_batch(self, batch: Batch) -> Sequence[float]:
        """Return the seconds of each stage and message, as `StageTimes` does."""
        times = self._times.of_batch(batch)
        return times if self._slowdown == 1 else [seconds * self._slowdown for seconds in times]

    def apply(self, active: Sequence[FaultSpan]) -> None:
        """Slow down iterations by the product of the active faults.

        Only iterations that start from now on are affected.
        """
        self._slowdown = math.prod(fault.slowdown for fault in active if fault.kind != NETWORK)
        network_slowdown = math.prod(fault.slowdown for fault in active if fault.kind == NETWORK)
        self._times = self._normal if network_slowdown == 1 else self._slow_network_times(network_slowdown)


class FaultInjector:
    """Process that injects the faults of a run.

    Attributes:
        spans: Faults that have begun, each of one replica, by time.
        lost: Requests that are never answered.
        restarts: Whether requests of a failed replica restart, so that their tokens so far do not count.
        tokens_lost: Tokens in the KV cache that failures lost, summed.
        cut_off: Whether the time limit passed before a replica came back for requests that wait for it.
    """

    def __init__(
        self,
        faults: Faults,
        seed: Sequence[int],
        clock: Clock,
        gateway: Gateway,
        requests: RequestTable,
        runs: Sequence[ReplicaRun],
        front_ends: Sequence[FrontEnd],
        send: Callable[[int], None],
        on_loss: Callable[[int], None],
        time_limit_s: float = math.inf,
    ) -> None:
        """Start the process.

        Args:
            faults: Faults to inject.
            seed: Seed of random faults.
            clock: Simulated time.
            gateway: Gateway of the cluster.
            requests: All requests.
            runs: Runs of the replicas; their stage times are `DegradedTimes`.
            front_ends: Front ends of the replicas.
            send: Called with each request that is sent again.
            on_loss: Called with each request that is lost.
            time_limit_s: Time after which no fault begins and no request is sent again, seconds.

        Raises:
            ValueError: A fault names a replica that does not exist.
        """
        self.spans: list[FaultSpan] = []
        self.lost: list[int] = []
        self.restarts = faults.on_failure == RESTART
        self.tokens_lost = 0
        self.cut_off = False
        self._time_limit_s = time_limit_s
        self._num_failures = Counter[int]()  # by request
        self._faults = faults
        self._clock = clock
        self._gateway = gateway
        self._requests = requests
        self._runs = runs
        self._front_ends = front_ends
        self._send = send
        self._on_loss = on_loss
        self._active: list[list[FaultSpan]] = [[] for _ in runs]
        self._num_ends_due = 0
        clock.process(self._inject(faults.in_order(len(runs), seed)))

    def refuses(self, request: int) -> bool:
        """Lose an arriving request if no replica is up.

        Only `on_failure` "lose" does so; otherwise the request is queued.

        Returns:
            Whether the request is lost.
        """
        if self._faults.on_failure != LOSE or self._gateway.routing.has_replica_up:
            return False
        self._lose(request)
        return True

    def _inject(self, faults: Iterator[FaultSpan]) -> Generator[Event, None, None]:
        for fault in faults:
            if self._is_over() or fault.at_s > self._time_limit_s:
                return
            wake = self._clock.wake_at(fault.at_s, FAULT)
            if wake is not None:
                yield wake
            if self._is_over():
                return
            self._begin(fault)

    def _is_over(self) -> bool:
        """Return whether no fault can matter any more.

        Only fault ends are then due, and no request waits for a replica to come back.
        """
        is_awaited = self._gateway.queue and any(map(self._comes_back, range(len(self._active))))
        return self._clock.num_due == self._num_ends_due and not is_awaited

    def _comes_back(self, replica: int) -> bool:
        return all(fault.for_s is not None for fault in self._active[replica] if fault.kind == FAILURE)

    def _begin(self, fault: FaultSpan) -> None:
        active = self._active[fault.replica]
        was_up = self._is_up(fault.replica)
        active.append(fault)
        self.spans.append(fault)
        if fault.for_s is not None:
            self._num_ends_due += 1
            self._clock.call_at(fault.end_s, partial(self._end, fault), FAULT)
        if fault.kind != FAILURE:
            self._update_times(fault.replica)
        elif was_up:
            self._gateway.routing.mark_replica(fault.replica, is_up=False)
            self._drop_requests(fault.replica)

    def _end(self, fault: FaultSpan, _: Event) -> None:
        self._num_ends_due -= 1
        self._active[fault.replica].remove(fault)
        if fault.kind != FAILURE:
            self._update_times(fault.replica)
        elif self._is_up(fault.replica):
            self._gateway.routing.mark_replica(fault.replica, is_up=True)
            self.cut_off = self._clock.now > self._time_limit_s
            if self.cut_off:
                return
            queued, self._gateway.queue = self._gateway.queue, deque()
            for request in queued:
                self._send(request)

    def _is_up(self, replica: int) -> bool:
        return all(fault.kind != FAILURE for fault in self._active[replica])

    def _update_times(self, replica: int) -> None:
        times = self._runs[replica].stage_times
        assert isinstance(times, DegradedTimes)
        times.apply([fault for fault in self._active[replica] if fault.kind != FAILURE])

    def _drop_requests(self, replica: int) -> None:
        """Drop all requests of a failed replica; retry or lose each."""
        now_s = self._clock.now
        self.tokens_lost += cached_tokens(self._runs[replica].replica)
        running, waiting = self._front_ends[replica].fail()
        self._gateway.end(replica, running, now_s, StayEnd.FAILED, was_running=True)
        self._gateway.end(replica, waiting, now_s, StayEnd.FAILED, was_running=False)
        for request in (*running, *waiting):
            self._retry(request)

    def _retry(self, request: int) -> None:
        faults = self._faults
        self._num_failures[request] += 1
        if faults.on_failure == LOSE or self._num_failures[request] > faults.max_retries:
            self._lose(request)
            return
        if self.restarts:
            self._requests.known_tokens.set(request, self._requests.prompt_tokens[request])
        self._send(request)

    def _lose(self, request: int) -> None:
        self.lost.append(request)
        self._on_loss(request)
