"""Carries out what goes wrong in a cluster: replicas go down and come back, their requests move, times get longer."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial

from simpy.events import Event

from simulator.cluster.faults import LOSE, RESTART, Faults
from simulator.cluster.gateway import Gateway
from simulator.engine import FAULT, Clock, Engine, ReplicaRun
from simulator.iteration_time import StageTimes
from simulator.log import FAILURE, LEFT_QUEUE, LEFT_RUNNING, NETWORK, NO_REPLICA, SENT, FaultSpan
from simulator.replica import Batch, RequestTable


class DegradedTimes:
    """Stage times of a replica that may be slow for a while.

    Attributes:
        normal: The times when nothing is wrong.
    """

    def __init__(self, normal: StageTimes, slower_network: Callable[[float], StageTimes]) -> None:
        """Start as nothing is wrong.

        Args:
            normal: The times when nothing is wrong.
            slower_network: Returns the times when messages between GPUs take so many times as long.
        """
        self.normal = self._times = normal
        self._slower_network = slower_network
        self._slowdown = 1.0

    def __call__(self, batch: Batch) -> Sequence[float]:
        """Return the seconds of each stage and message, as `StageTimes` does."""
        times = self._times(batch)
        return times if self._slowdown == 1 else [seconds * self._slowdown for seconds in times]

    def set_to(self, active: Sequence[FaultSpan]) -> None:
        """Let iterations that begin from now on take as long as some faults at once make them."""
        self._slowdown = math.prod(one.slowdown for one in active if one.kind != NETWORK)
        network = math.prod(one.slowdown for one in active if one.kind == NETWORK)
        self._times = self.normal if network == 1 else self._slower_network(network)


class FaultInjector:
    """What goes wrong in a run.

    Attributes:
        begun: Faults so far, each of one replica, by time.
        moves: Of requests that failures hit: (request, replica, seconds, SENT, LEFT_QUEUE or LEFT_RUNNING).
        num_retries: How often each of them was sent again.
        lost: Requests that will not be answered.
        first_arrival_s: When those that were sent on or held arrived first.
        tokens_lost: Tokens in the KV cache that failures took, summed.
        cut_off: Whether the time limit came before a replica that requests are held for.
    """

    def __init__(
        self,
        faults: Faults,
        seed: Sequence[int],
        clock: Clock,
        gateway: Gateway,
        requests: RequestTable,
        runs: Sequence[ReplicaRun],
        engines: Sequence[Engine],
        on_loss: Callable[[int], None],
        time_limit_s: float = math.inf,
    ) -> None:
        """Start the process that waits for the next fault.

        Args:
            faults: What goes wrong.
            seed: Seed of its randomness.
            clock: Simulated time.
            gateway: Sends requests again.
            requests: All requests.
            runs: The replicas; their stage times are `DegradedTimes`.
            engines: What serves them.
            on_loss: Called with a request that will not be answered.
            time_limit_s: Nothing goes wrong later, and no request is sent again.

        Raises:
            ValueError: A fault is of a replica that does not exist.
        """
        self.begun: list[FaultSpan] = []
        self.moves: list[tuple[int, int, float, int]] = []
        self.num_retries: dict[int, int] = {}
        self.lost: list[int] = []
        self.first_arrival_s: dict[int, float] = {}
        self.tokens_lost = 0
        self.cut_off = False
        self._time_limit_s = time_limit_s
        self._thrown_out: set[int] = set()
        self._faults = faults
        self._clock = clock
        self._gateway = gateway
        self._requests = requests
        self._runs = runs
        self._engines = engines
        self._on_loss = on_loss
        self._prompts = list(requests.known_tokens)
        self._active: list[list[FaultSpan]] = [[] for _ in runs]
        self._num_ends_due = 0
        clock.process(self._watch(faults.in_order(len(runs), seed)))

    def refuses(self, request: int) -> bool:
        """Whether a request that arrives now is lost, as no replica is up and nothing is sent again."""
        if self._faults.on_failure != LOSE or self._gateway.any_up:
            return False
        self._lose(request)
        return True

    def _watch(self, faults: Iterator[FaultSpan]) -> Generator[Event, None, None]:
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
        """Whether nothing is left that a fault could hit: nothing is due but ends of faults, and none is awaited."""
        awaited = self._gateway.held and any(map(self._comes_back, range(len(self._active))))
        return self._clock.num_due == self._num_ends_due and not awaited

    def _comes_back(self, replica: int) -> bool:
        return all(one.for_s is not None for one in self._active[replica] if one.kind == FAILURE)

    def _begin(self, fault: FaultSpan) -> None:
        active = self._active[fault.replica]
        was_up = self._is_up(fault.replica)
        active.append(fault)
        self.begun.append(fault)
        if fault.for_s is not None:
            self._num_ends_due += 1
            self._clock.call_at(fault.end_s, partial(self._end, fault), FAULT)
        if fault.kind != FAILURE:
            self._set_times(fault.replica)
        elif was_up:
            self._gateway.set_up(fault.replica, False)
            self._throw_out(fault.replica)

    def _end(self, fault: FaultSpan, _: Event) -> None:
        self._num_ends_due -= 1
        self._active[fault.replica].remove(fault)
        if fault.kind != FAILURE:
            self._set_times(fault.replica)
        elif self._is_up(fault.replica):
            self._gateway.set_up(fault.replica, True)
            self.cut_off = self._clock.now > self._time_limit_s
            if self.cut_off:
                return
            held, self._gateway.held = self._gateway.held, deque()
            for request in held:
                self._send(request)

    def _is_up(self, replica: int) -> bool:
        return all(one.kind != FAILURE for one in self._active[replica])

    def _set_times(self, replica: int) -> None:
        times = self._runs[replica].stage_times
        assert isinstance(times, DegradedTimes)
        times.set_to([one for one in self._active[replica] if one.kind != FAILURE])

    def _throw_out(self, replica: int) -> None:
        """Take all requests from a replica that fails, and send them again or not."""
        now_s, request_events = self._clock.now, self._runs[replica].replica.request_events
        self.tokens_lost += self._runs[replica].replica.cached_tokens
        running, waiting = self._engines[replica].fail()
        self._gateway.end(replica, [*running, *waiting])
        if self._faults.on_failure == RESTART:
            request_events.discard([*running, *waiting])
        for requests, left in ((running, LEFT_RUNNING), (waiting, LEFT_QUEUE)):
            for request in requests:
                if request not in self.first_arrival_s:
                    self.first_arrival_s[request] = self._requests.arrival_s[request]
                    self.moves.append((request, replica, self._requests.arrival_s[request], SENT))
                self.moves.append((request, replica, now_s, left))
        for request in (*running, *waiting):
            self._retry(request)

    def _retry(self, request: int) -> None:
        faults, num_retries = self._faults, self.num_retries.get(request, 0)
        if faults.on_failure == LOSE or num_retries == faults.max_retries:
            self._lose(request)
            return
        self._thrown_out.add(request)
        if faults.on_failure == RESTART:
            self._requests.known_tokens[request] = self._prompts[request]
        self._gateway.take_back(request, self._requests.known_tokens[request])
        self._send(request)

    def _send(self, request: int) -> None:
        """Let a request arrive at a replica that is up; its time of arrival there is what the engine knows."""
        replica = self._gateway.send(request)
        if replica == NO_REPLICA:
            return
        if request in self._thrown_out:
            self._thrown_out.remove(request)
            self.num_retries[request] = self.num_retries.get(request, 0) + 1
        self.first_arrival_s.setdefault(request, self._requests.arrival_s[request])
        self._requests.arrival_s[request] = self._clock.now
        self.moves.append((request, replica, self._clock.now, SENT))
        self._engines[replica].arrive(request)

    def _lose(self, request: int) -> None:
        self.lost.append(request)
        self._on_loss(request)
