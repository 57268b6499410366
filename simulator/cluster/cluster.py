"""Replicas behind a router, and the requests that arrive there."""

import gc
import math
from collections.abc import Callable, Generator, Sequence
from functools import partial

import numpy as np
from simpy.events import Event

from simulator.cluster.fault_injection import DegradedTimes, FaultInjector
from simulator.cluster.faults import Faults
from simulator.cluster.follow_ups import FollowUps
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
    stuck_reason,
)
from simulator.log import NO_REPLICA, IterationLog, StageUse
from simulator.replica import OverlappingReplica, Replica, RequestTable
from simulator.routers import ReplicaLoad, RoundRobin, Router
from simulator.schedulers import Overlapping


class Cluster:
    """Replicas behind a router.

    Attributes:
        clock: Simulated time.
        specs: What makes each replica.
        runs: What each replica did, and what is left of it.
        requests: All requests.
        follow_ups: Which requests wait for the end of others; None: none does.
        gateway: Who sent each request where.
        fault_injector: What goes wrong; None: nothing does.
        num_ended: Requests that emitted their last token, were refused or lost.
        stuck_reasons: Of each replica, why requests are left when nothing can happen any more; None: none are.
    """

    def __init__(
        self,
        requests: RequestTable,
        specs: Sequence[ReplicaSpec],
        router: Router | None = None,
        *,
        sessions: Sequence[int] | None = None,
        follow_ups: FollowUps | None = None,
        random: np.random.Generator | None = None,
        faults: Faults | None = None,
        fault_seed: Sequence[int] = (0,),
        time_limit_s: float = math.inf,
        log_members: bool = False,
        log_stages: bool = False,
        new_replica: Callable[[ReplicaSpec], Callable[..., Replica]] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Build the replicas.

        Args:
            requests: All requests, in order of arrival.
            specs: One per replica.
            router: The policy that chooses the replica of a request; None: round robin.
            sessions: Session of each request; None: there are no sessions.
            follow_ups: Which requests wait for the end of others; None: none does.
            random: Randomness of routing.
            faults: What goes wrong; None: nothing.
            fault_seed: Seed of its randomness.
            time_limit_s: No iteration starts later, and no request arrives later.
            log_members: Whether to log the members of every batch.
            log_stages: Whether to log when each pipeline stage computes.
            new_replica: Returns what is called in place of the class of a replica; None: that class.
            progress: Called with the number of requests that ended, once per 0.5 % of them.
        """
        self.clock = Clock()
        self.specs = specs
        self.num_ended = 0
        self.requests = requests
        self.follow_ups = follow_ups
        self._degrades = bool(faults)
        self._new_replica = new_replica
        self.stuck_reasons: Sequence[StuckReason | None] = ()
        self._time_limit_s = time_limit_s
        self._progress = progress
        self._next_report = 0
        # The arrivals come first, so that SimPy starts their process before those of the engines.
        self.clock.process(self._arrivals())
        self.runs = [self._run_of(number, spec, log_members, log_stages) for number, spec in enumerate(specs)]
        loads = [
            ReplicaLoad(run.replica, spec.placement.device, spec.placement.num_gpus)
            for spec, run in zip(specs, self.runs, strict=True)
        ]
        self.gateway = Gateway(requests, sessions, loads, router or RoundRobin(), random or np.random.default_rng(0))
        self._engines = [self._engine_of(run) for run in self.runs]
        self.fault_injector: FaultInjector | None = None
        if faults is not None and faults:
            self.fault_injector = FaultInjector(
                faults,
                fault_seed,
                self.clock,
                self.gateway,
                requests,
                self.runs,
                self._engines,
                self._on_loss,
                time_limit_s,
            )

    def run(self) -> None:
        """Simulate until nothing can happen any more.

        The loop makes many small objects and no cycles of them. Looking for cycles would cost up to a tenth
        of its time, more in longer runs, so that is switched off meanwhile.
        """
        collects = gc.isenabled()
        gc.disable()
        try:
            self.clock.run()
        finally:
            if collects:
                gc.enable()
        self.stuck_reasons = [stuck_reason(run) for run in self.runs]

    def _run_of(self, number: int, spec: ReplicaSpec, log_members: bool, log_stages: bool) -> ReplicaRun:
        num_stages, stage_times = spec.placement.pp, spec.stage_times
        if self._degrades:
            normal = stage_times
            stage_times = DegradedTimes(normal, spec.slower_network or (lambda _: normal))
        replica = spec.build(self.requests, None if self._new_replica is None else self._new_replica(spec))
        return ReplicaRun(
            replica,
            spec.scheduler,
            stage_times,
            IterationLog(log_members, num_stages if log_stages and num_stages > 1 else 0),
            partial(self._on_end, number),
            self._time_limit_s,
            stages=[StageUse() for _ in range(num_stages)],
            overlap_sends=spec.overlap_sends,
        )

    def _engine_of(self, run: ReplicaRun) -> Engine:
        num_stages = len(run.stages)
        if isinstance(run.scheduler, Overlapping):
            assert isinstance(run.replica, OverlappingReplica)
            depth = run.scheduler.overlap.depth(num_stages)
            if depth > 1:
                return BatchQueueEngine(self.clock, run, run.replica, depth)
        return SingleStageEngine(self.clock, run) if num_stages == 1 else PipelineEngine(self.clock, run)

    def _arrivals(self) -> Generator[Event, None, None]:
        # A copy: those that wait get their times while this goes on.
        for request, arrival_s in enumerate(list(self.requests.arrival_s)):
            if arrival_s > self._time_limit_s:
                return
            if math.isnan(arrival_s):
                continue
            wake = self.clock.wake_at(arrival_s, ARRIVAL)
            if wake is not None:
                yield wake
            self._arrive(request)

    def _follow(self, request: int, answered: bool) -> None:
        """Let the request that waits for another one's end arrive, now or later."""
        assert self.follow_ups is not None
        found = self.follow_ups.after(request, answered)
        if found is None:
            return
        following, think_s = found
        arrival_s = self.clock.now + think_s
        if arrival_s > self._time_limit_s:
            return
        self.requests.arrival_s[following] = arrival_s
        if think_s == 0 and answered:
            self._arrive(following)
        else:
            self.clock.call_at(arrival_s, partial(self._arrive, following), ARRIVAL)

    def _arrive(self, request: int, _: Event | None = None) -> None:
        if self.fault_injector is not None and self.fault_injector.refuses(request):
            return
        replica = self.gateway.send(request)
        if replica != NO_REPLICA:
            self._engines[replica].arrive(request)

    def _on_loss(self, request: int) -> None:
        self._note_ends([request], answered=False)

    def _on_end(self, replica: int, requests: Sequence[int], answered: bool) -> None:
        self.gateway.end(replica, requests)
        self._note_ends(requests, answered)

    def _note_ends(self, requests: Sequence[int], answered: bool) -> None:
        self.num_ended += len(requests)
        if self.follow_ups is not None:
            for request in requests:
                self._follow(request, answered)
        if self._progress is not None and self.num_ended >= self._next_report:
            self._progress(self.num_ended)
            self._next_report = self.num_ended + max(1, len(self.requests.arrival_s) // 200)
