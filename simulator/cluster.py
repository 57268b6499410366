"""Replicas behind a router, and the requests that arrive there."""

import gc
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from simpy.events import Event

from simulator.clock import ARRIVAL, Clock
from simulator.engine import Engine, ReplicaRun, SingleStageEngine
from simulator.iteration_log import IterationLog
from simulator.iteration_time.base import StageTimes
from simulator.pipeline import PipelineEngine
from simulator.replica import Replica
from simulator.request_table import RequestTable
from simulator.routers.base import Router
from simulator.schedulers.base import Scheduler


@dataclass(frozen=True)
class ReplicaSpec:
    """All that makes one replica.

    Attributes:
        scheduler: The policy.
        stage_times: Seconds per pipeline stage of a batch.
        num_stages: Pipeline stages.
        num_blocks: KV blocks.
        block_size: Tokens per KV block.
        watermark: Share of the blocks that an admission should leave free, if the policy has a watermark.
        max_model_len: Longest sequence that is admitted, tokens.
    """

    scheduler: Scheduler
    stage_times: StageTimes
    num_stages: int
    num_blocks: int
    block_size: int
    watermark: float
    max_model_len: int


class Cluster:
    """Replicas behind a router.

    Attributes:
        clock: Simulated time.
        runs: What each replica did, and what is left of it.
        assigned: list[int], replica of each request that has arrived.
        num_finished: Requests that emitted their last token.
    """

    def __init__(
        self,
        requests: RequestTable,
        specs: Sequence[ReplicaSpec],
        router: Router,
        *,
        time_limit_s: float = math.inf,
        log_members: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Build the replicas.

        Args:
            requests: All requests, in order of arrival.
            specs: One per replica.
            router: The policy that chooses the replica of a request.
            time_limit_s: No iteration starts later, and no request arrives later.
            log_members: Whether to log the members of every batch.
            progress: Called with the number of finished requests, once per 0.5 % of them.
        """
        self.clock = Clock()
        self.assigned: list[int] = []
        self.num_finished = 0
        self._requests = requests
        self._router = router
        self._time_limit_s = time_limit_s
        self._progress = progress
        self._next_report = 0
        # The arrivals come first, so that SimPy starts their process before those of the engines.
        self.clock.process(self._arrivals())
        self.runs = [self._run_of(spec, log_members) for spec in specs]
        self._engines: list[Engine] = [
            SingleStageEngine(self.clock, run) if len(run.busy_s) == 1 else PipelineEngine(self.clock, run)
            for run in self.runs
        ]

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

    def _run_of(self, spec: ReplicaSpec, log_members: bool) -> ReplicaRun:
        replica = Replica(
            self._requests,
            num_blocks=spec.num_blocks,
            block_size=spec.block_size,
            max_model_len=spec.max_model_len,
            watermark_blocks=int(spec.watermark * spec.num_blocks),
            num_stages=spec.num_stages,
            appends_blocks=spec.scheduler.appends_blocks,
        )
        return ReplicaRun(
            replica,
            spec.scheduler,
            spec.stage_times,
            IterationLog(log_members),
            self._on_finish,
            self._time_limit_s,
            busy_s=[0.0] * spec.num_stages,
        )

    def _arrivals(self) -> Generator[Event, None, None]:
        replicas = [run.replica for run in self.runs]
        for request, arrival_s in enumerate(self._requests.arrival_s):
            if arrival_s > self._time_limit_s:
                return
            wake = self.clock.wake_at(arrival_s, ARRIVAL)
            if wake is not None:
                yield wake
            replica = self._router.route(request, replicas)
            self.assigned.append(replica)
            self._engines[replica].arrive(request)

    def _on_finish(self, num_requests: int) -> None:
        self.num_finished += num_requests
        if self._progress is not None and self.num_finished >= self._next_report:
            self._progress(self.num_finished)
            self._next_report = self.num_finished + max(1, len(self._requests.arrival_s) // 200)
