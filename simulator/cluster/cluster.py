"""A cluster: replicas behind a router, and the arrivals of requests."""

import gc
import math
from collections.abc import Callable, Generator, Sequence
from functools import partial

import numpy as np
from simpy.events import Event

from simulator.cluster.concurrency_limit import ConcurrencyLimit
from simulator.cluster.fault_injection import DegradedTimes, FaultInjector
from simulator.cluster.faults import Faults
from simulator.cluster.follow_ups import FollowUps
from simulator.cluster.front_end import FrontEnd
from simulator.cluster.gateway import Gateway
from simulator.cluster.replica_spec import ReplicaSpec
from simulator.engine import (
    ARRIVAL,
    BatchQueueEngine,
    Clock,
    Engine,
    PipelineEngine,
    ReplicaRun,
    SingleStageEngine,
    StuckReason,
    stop_endless_calls,
    stuck_reason,
)
from simulator.log import NO_REPLICA, IterationLog, StageUse, StayEnd
from simulator.replica import Replica, RequestTable
from simulator.routers import ReplicaLoad, RoundRobin, Router

# Looking a member of an enumeration up takes time.
_FINISHED, _REFUSED = StayEnd.FINISHED, StayEnd.REFUSED


class Cluster:
    """Replicas behind a router.

    Attributes:
        clock: Simulated time.
        specs: Specification of each replica.
        runs: Run of each replica: its state, policy and log.
        requests: All requests.
        follow_ups: Requests that arrive when others end; None: there are none.
        gateway: Entry point of the requests.
        fault_injector: Process that injects faults; None: there are no faults.
        num_ended: Requests that emitted their last token, or were refused or lost.
        stuck_reasons: Why requests of each replica are left after the run; None: none are, or the time limit passed.
    """

    def __init__(
        self,
        requests: RequestTable,
        specs: Sequence[ReplicaSpec],
        router: Router | None = None,
        *,
        sessions: Sequence[int] | None = None,
        follow_ups: FollowUps | None = None,
        max_concurrency: int | None = None,
        random: np.random.Generator | None = None,
        faults: Faults | None = None,
        fault_seed: Sequence[int] = (0,),
        time_limit_s: float = math.inf,
        log_members: bool = False,
        log_stages: bool = False,
        replica_class: Callable[..., Replica] = Replica,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Build the replicas.

        Args:
            requests: All requests, in order of arrival.
            specs: Specification of each replica.
            router: Routing policy; None: round robin.
            sessions: Session of each request; None: there are no sessions.
            follow_ups: Requests that arrive when others end; None: there are none.
            max_concurrency: Most requests in flight, see `Trace`; None: no limit.
            random: Random generator of the router; None: seed 0.
            faults: Faults to inject; None: none.
            fault_seed: Seed of random faults.
            time_limit_s: Time after which no iteration starts and no request arrives, seconds.
            log_members: Whether to log the members of every batch.
            log_stages: Whether to log when each pipeline stage computes.
            replica_class: Called with the arguments of `Replica` for each replica.
            progress: Called with the number of requests that have ended, once per 0.5 % of them.
        """
        self.clock = Clock()
        self.specs = specs
        self.num_ended = 0
        self.requests = requests
        self.follow_ups = follow_ups
        self._limit = None if max_concurrency is None else ConcurrencyLimit(max_concurrency)
        self._has_faults = bool(faults)
        # Whether the end of a request can make another event due.
        self._listens = follow_ups is not None or max_concurrency is not None or self._has_faults
        self._replica_class = replica_class
        self.stuck_reasons: Sequence[StuckReason | None] = ()
        self._time_limit_s = time_limit_s
        self._progress = progress
        self._next_report = 0
        # Before the engines, so that SimPy starts the arrivals before them.
        self.clock.process(self._arrivals())
        self.runs = [self._build_run(number, spec, log_members, log_stages) for number, spec in enumerate(specs)]
        self._front_ends = [
            FrontEnd(self.clock, spec.front_end, run, self._build_engine(run))
            for spec, run in zip(specs, self.runs, strict=True)
        ]
        loads = [
            ReplicaLoad(run.replica, spec.placement.device, spec.placement.num_gpus, catch_up=front_end.catch_up)
            for spec, run, front_end in zip(specs, self.runs, self._front_ends, strict=True)
        ]
        self.gateway = Gateway(requests, sessions, loads, router or RoundRobin(), random or np.random.default_rng(0))
        self.fault_injector: FaultInjector | None = None
        if faults is not None and faults:
            self.fault_injector = FaultInjector(
                faults,
                fault_seed,
                self.clock,
                self.gateway,
                requests,
                self.runs,
                self._front_ends,
                self._send,
                self._on_loss,
                time_limit_s,
            )

    def run(self) -> None:
        """Simulate until no event is due.

        The event loop creates many small objects but no reference cycles. The cyclic garbage collector would cost up
        to a tenth of its time, and more in longer runs, so it is disabled meanwhile.
        """
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            with stop_endless_calls(run.scheduler for run in self.runs):
                self.clock.run()
                for front_end in self._front_ends:
                    front_end.advance(math.inf)
        finally:
            if was_enabled:
                gc.enable()
        self.stuck_reasons = [stuck_reason(run) for run in self.runs]

    @property
    def end_s(self) -> float:
        """When the last event happened, simulated seconds."""
        ends_s = [run.log.last_end_s(math.inf) or 0.0 for run in self.runs]
        return max(self.clock.now, *ends_s)

    def _build_run(self, number: int, spec: ReplicaSpec, log_members: bool, log_stages: bool) -> ReplicaRun:
        num_stages, stage_times = spec.placement.pp, spec.stage_times
        if self._has_faults:
            stage_times = DegradedTimes(spec.stage_times, spec.slow_network_times or (lambda _: spec.stage_times))
        replica = spec.build(self.requests, self._replica_class)
        return ReplicaRun(
            replica,
            spec.scheduler,
            stage_times,
            IterationLog(log_members, num_stages if log_stages and num_stages > 1 else 0),
            partial(self._on_end, number),
            time_limit_s=self._time_limit_s,
            stages=[StageUse() for _ in range(num_stages)],
            overlap_sends=spec.overlap_sends,
        )

    def _build_engine(self, run: ReplicaRun) -> Engine:
        num_stages, limits = len(run.stages), run.replica.limits
        depth = num_stages + limits.lookahead
        if limits.uses_batch_queue and depth > 1:
            return BatchQueueEngine(self.clock, run, self._listens, depth)
        engine = SingleStageEngine if num_stages == 1 else PipelineEngine
        return engine(self.clock, run, self._listens)

    def _arrivals(self) -> Generator[Event, None, None]:
        # A copy: follow-ups get their arrival times during the loop.
        for request, arrival_s in enumerate(list(self.requests.arrival_s)):
            if arrival_s > self._time_limit_s:
                return
            if math.isnan(arrival_s):
                continue
            wake = self.clock.wake_at(arrival_s, ARRIVAL)
            if wake is not None:
                yield wake
            self._arrive(request)

    def _schedule_follow_up(self, request: int, answered: bool, delay_s: float) -> None:
        """Schedule the arrival of the follow-up of an ended request.

        `delay_s` is the time until the client knows of the end.
        """
        assert self.follow_ups is not None
        popped = self.follow_ups.pop(request, answered)
        if popped is None:
            return
        follow_up, think_s = popped
        arrival_s = self.clock.now + delay_s + think_s
        if arrival_s > self._time_limit_s:
            return
        self.requests.arrival_s[follow_up] = arrival_s
        if arrival_s == self.clock.now and answered:
            self._arrive(follow_up)
        else:
            self.clock.call_at(arrival_s, partial(self._arrive, follow_up), ARRIVAL)

    def _arrive(self, request: int, _: Event | None = None) -> None:
        if self._limit is None or self._limit.take(request):
            self._send(request)
        else:
            self.requests.arrival_s[request] = math.nan  # unknown until it is sent

    def _schedule_release(self, limit: ConcurrencyLimit, answered: bool, delay_s: float) -> None:
        """Schedule the release of an ended request's place.

        `delay_s` is the time until the client knows of the end.
        """
        at_s = self.clock.now + delay_s
        if at_s == self.clock.now and answered:
            self._release(limit)
        elif at_s <= self._time_limit_s:
            self.clock.call_at(at_s, partial(self._release, limit), ARRIVAL)

    def _release(self, limit: ConcurrencyLimit, _: Event | None = None) -> None:
        request = limit.release()
        if request is not None:
            self.requests.arrival_s[request] = self.clock.now
            self._send(request)

    def _send(self, request: int) -> None:
        if self.fault_injector is not None and self.fault_injector.refuses(request):
            return
        replica = self.gateway.send(request, self.clock.now)
        if replica != NO_REPLICA:
            self._front_ends[replica].arrive(request)

    def _on_loss(self, request: int) -> None:
        self._tell_clients([request], answered=False, delay_s=0.0)
        self._count_ends(1)

    def _on_end(self, replica: int, requests: Sequence[int], answered: bool, now_s: float) -> bool:
        self.gateway.end(replica, requests, now_s, _FINISHED if answered else _REFUSED, was_running=answered)
        if self._listens:
            self.clock.skip_to(now_s)
            self._tell_clients(requests, answered, self._front_ends[replica].delay_s(len(requests)))
        self._count_ends(len(requests))
        return self._listens

    def _tell_clients(self, requests: Sequence[int], answered: bool, delay_s: float) -> None:
        """Schedule what follows the ends of requests.

        `delay_s` is the time until the clients know of them.
        """
        if self._limit is not None:
            for _ in requests:
                self._schedule_release(self._limit, answered, delay_s)
        if self.follow_ups is not None:
            for request in requests:
                self._schedule_follow_up(request, answered, delay_s)

    def _count_ends(self, num_ended: int) -> None:
        self.num_ended += num_ended
        if self._progress is not None and self.num_ended >= self._next_report:
            self._progress(self.num_ended)
            self._next_report = self.num_ended + max(1, len(self.requests.arrival_s) // 200)
