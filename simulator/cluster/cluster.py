"""Replicas behind a router, and the requests that arrive there."""

import gc
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from simpy.events import Event

from simulator.cluster.fault_injection import DegradedTimes, Outages
from simulator.cluster.faults import Faults
from simulator.cluster.follow_ups import Followers
from simulator.cluster.gateway import NO_REPLICA, Gateway
from simulator.engine.base import Engine, ReplicaRun, SingleStageEngine
from simulator.engine.batch_queue import BatchQueueEngine
from simulator.engine.clock import ARRIVAL, Clock
from simulator.engine.pipeline import PipelineEngine
from simulator.engine.pipeline_stages import StageUse
from simulator.invariants.checked_overlapping_replica import CheckedOverlappingReplica
from simulator.invariants.checked_replica import CheckedReplica
from simulator.invariants.expected_state import Books
from simulator.iteration_time.base import StageTimes
from simulator.log.iterations import IterationLog
from simulator.replica.caching import CachingReplica
from simulator.replica.overlapping import OverlappingReplica
from simulator.replica.replica import Replica
from simulator.replica.requests import RequestTable
from simulator.routers.base import ReplicaLoad, Router
from simulator.schedulers.base import Overlapping, Scheduler, SizedBatches

LONGEST = 2**31  # tokens, longer than any sequence


@dataclass(frozen=True)
class Placement:
    """The GPUs of one replica.

    Attributes:
        group: Number of the group of identical replicas that it belongs to.
        device: Name of its GPUs.
        node: Name of the machines that they are in; empty: unknown.
        tp: Tensor-parallel degree.
        pp: Pipeline stages.
        price_per_hour_usd: Price of those GPUs, US dollars per hour; None: unknown.
    """

    group: int = 0
    device: str = ""
    node: str = ""
    tp: int = 1
    pp: int = 1
    price_per_hour_usd: float | None = None

    @property
    def num_gpus(self) -> int:
        """GPUs that it takes."""
        return self.tp * self.pp


@dataclass(frozen=True)
class ReplicaSpec:
    """All that makes one replica.

    Attributes:
        scheduler: The policy.
        stage_times: Seconds of a batch in each pipeline stage.
        num_blocks: KV blocks.
        block_size: Tokens per KV block.
        watermark: Share of the blocks that an admission should leave free, if the policy has a watermark.
        max_model_len: Longest sequence that is admitted, tokens.
        overlap_sends: Whether a stage goes on while it sends.
        placement: Its GPUs.
        prefix_caching: Whether KV blocks are found again by what they hold.
        slower_network: Returns the stage times when messages between its GPUs take so many times as long; None:
            it has no messages, or nobody knows how long they take.
    """

    scheduler: Scheduler
    stage_times: StageTimes
    num_blocks: int
    block_size: int
    watermark: float
    max_model_len: int
    overlap_sends: bool = False
    placement: Placement = Placement()
    slower_network: Callable[[float], StageTimes] | None = None
    prefix_caching: bool = False

    def build(self, requests: RequestTable, new_replica: Callable[..., Replica] | None = None) -> Replica:
        """Return an empty replica.

        Args:
            requests: Table of all requests of the run.
            new_replica: What is called for it, with the arguments of its class; None: that class.
        """
        options: dict[str, Any] = {
            "num_blocks": self.num_blocks,
            "block_size": self.block_size,
            "max_model_len": self.max_model_len,
            "num_stages": self.placement.pp,
        }
        if isinstance(self.scheduler, Overlapping):
            overlap = self.scheduler.overlap
            options |= {
                "num_blocks": self.num_blocks - 1,  # the engine never gives the first one away
                "watermark_blocks": int(overlap.watermark * self.num_blocks),
                "ahead": self.placement.pp if overlap.ahead else 0,
                "labels": requests.labels[self.block_size] if self.prefix_caching else None,
                "rank": requests.rank if overlap.by_priority else None,
            }
        else:
            options["watermark_blocks"] = int(self.watermark * self.num_blocks)
            options["appends_blocks"] = self.scheduler.appends_blocks
        default = CachingReplica if isinstance(self.scheduler, Overlapping) else Replica
        return (new_replica or default)(requests, **options)


class Cluster:
    """Replicas behind a router.

    Attributes:
        clock: Simulated time.
        specs: What makes each replica.
        runs: What each replica did, and what is left of it.
        requests: All requests.
        followers: Which requests wait for the end of others; None: none does.
        gateway: Who sent each request where.
        outages: What went wrong; None: nothing does.
        num_ended: Requests that emitted their last token, were refused or lost.
    """

    def __init__(
        self,
        requests: RequestTable,
        specs: Sequence[ReplicaSpec],
        router: Router,
        *,
        sessions: Sequence[int] | None = None,
        followers: Followers | None = None,
        random: np.random.Generator | None = None,
        faults: Faults | None = None,
        fault_seed: Sequence[int] = (0,),
        time_limit_s: float = math.inf,
        log_members: bool = False,
        log_stages: bool = False,
        check: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Build the replicas.

        Args:
            requests: All requests, in order of arrival.
            specs: One per replica.
            router: The policy that chooses the replica of a request.
            sessions: Session of each request; None: there are no sessions.
            followers: Which requests wait for the end of others; None: none does.
            random: Randomness of routing.
            faults: What goes wrong; None: nothing.
            fault_seed: Seed of its randomness.
            time_limit_s: No iteration starts later, and no request arrives later.
            log_members: Whether to log the members of every batch.
            log_stages: Whether to log when each pipeline stage computes.
            check: Whether to check every decision against books that each replica keeps.
            progress: Called with the number of requests that ended, once per 0.5 % of them.
        """
        self.clock = Clock()
        self.specs = specs
        self.num_ended = 0
        self.requests = requests
        self.followers = followers
        self._degrades = bool(faults)
        self._books = Books(requests.prefill_tokens, requests.total_tokens) if check else None
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
        self.gateway = Gateway(requests, sessions, loads, router, random or np.random.default_rng(0))
        self._engines = [self._engine_of(run) for run in self.runs]
        self.outages: Outages | None = None
        if faults is not None and faults:
            self.outages = Outages(
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

    def _run_of(self, number: int, spec: ReplicaSpec, log_members: bool, log_stages: bool) -> ReplicaRun:
        num_stages, stage_times = spec.placement.pp, spec.stage_times
        if self._degrades:
            normal = stage_times
            stage_times = DegradedTimes(normal, spec.slower_network or (lambda _: normal))
        replica = spec.build(self.requests, self._new_replica(spec))
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

    def _new_replica(self, spec: ReplicaSpec) -> Callable[..., Replica] | None:
        policy = spec.scheduler
        if self._books is None:
            return None
        max_tokens = policy.profiled_tokens(LONGEST) if isinstance(policy, SizedBatches) else None
        overlaps = isinstance(policy, Overlapping)
        limit = policy.overlap.max_running if isinstance(policy, Overlapping) else getattr(policy, "max_num_seqs", None)
        checked = CheckedOverlappingReplica if overlaps else CheckedReplica
        return partial(checked, books=self._books, max_tokens=max_tokens, max_num_seqs=limit)

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
        assert self.followers is not None
        found = self.followers.after(request, answered)
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
        if self.outages is not None and self.outages.refuses(request):
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
        if self.followers is not None:
            for request in requests:
                self._follow(request, answered)
        if self._progress is not None and self.num_ended >= self._next_report:
            self._progress(self.num_ended)
            self._next_report = self.num_ended + max(1, len(self.requests.arrival_s) // 200)
