"""The event loop of one replica: asks for batches, spends their time, and logs them."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from simpy.events import Event

from simulator.engine.pipeline_stages import Stages
from simulator.iteration_time import StageTimes
from simulator.log import NO_DECODE_SET, IterationLog, StageUse
from simulator.replica import Batch, Replica
from simulator.schedulers import Scheduler

Process = Generator[Event, None, None]

_MAX_FUTILE_PREEMPTIONS = 1000


@dataclass
class ReplicaRun:
    """One replica in a run: what an engine works on and what is left when it is done.

    Attributes:
        replica: The replica's state, changed by its engine alone.
        scheduler: The policy.
        stage_times: Seconds per pipeline stage of a batch.
        log: The iterations so far.
        on_end: Called with requests that have ended and whether they emitted their last token or were refused.
        time_limit_s: No iteration starts later.
        stages: What each pipeline stage did with its time.
        overlap_sends: Whether a stage goes on while it sends.
        cut_off: Whether the time limit kept an iteration from starting.
        blocks_needed: KV blocks that had to be free for each admission, those found in a prefix cache included.
    """

    replica: Replica
    scheduler: Scheduler
    stage_times: StageTimes
    log: IterationLog
    on_end: Callable[[Sequence[int], bool], None]
    time_limit_s: float
    stages: Sequence[StageUse]
    overlap_sends: bool = False
    cut_off: bool = False
    blocks_needed: list[int] = field(default_factory=list)

    def enqueue(self, request: int) -> None:
        """Take a request that arrives now, or refuse it."""
        if not self.replica.enqueue(request):
            self.on_end([request], False)

    def one_batch(self, now_s: float) -> Batch | None:
        """Ask the policy for one batch, and carry out what it says; None: it has no tokens."""
        if self._is_livelocked:
            return None
        num_preempted = len(self.replica.request_events.preemptions)
        batch = self.scheduler.schedule(self.replica)
        while batch is not None:
            started = self._start(batch)
            if started is not None:
                return started
            batch = self.scheduler.schedule(self.replica) if batch.is_open else None
        self._log_lone_preemptions(num_preempted, now_s)
        return None

    def next_batch(self, now_s: float) -> Batch | None:
        """Ask the policy until it has tokens to compute or nothing to do, and carry out what it says."""
        schedule = self.scheduler.schedule
        num_preempted = len(self.replica.request_events.preemptions)
        while (batch := schedule(self.replica)) is not None:
            started = self._start(batch)
            if started is not None:
                return started
            if batch.preempted and self._is_livelocked:
                break
        self._log_lone_preemptions(num_preempted, now_s)
        return None

    def _start(self, batch: Batch) -> Batch | None:
        """Carry out a decision, and note what its admissions and refusals mean."""
        started = self.replica.start(batch)
        if batch.ignored:
            self.on_end(batch.ignored, False)
        admissions, needed = self.replica.request_events.admissions, self.blocks_needed
        if len(admissions) > len(needed):
            known_tokens = self.replica.requests.known_tokens
            needed += (
                self.scheduler.blocks_to_admit(self.replica, known_tokens[request])
                for request, *_ in admissions[len(needed) :]
            )
        return started

    def _log_lone_preemptions(self, num_before: int, now_s: float) -> None:
        self.log.preempt_alone(range(num_before, len(self.replica.request_events.preemptions)), now_s)

    def send(self, batch: Batch, stages: Stages, now_s: float, start_s: float) -> tuple[Sequence[float], float, float]:
        """Send a batch that has just been put in flight through the pipeline stages, and log it.

        Args:
            batch: The batch.
            stages: The stages.
            now_s: When it was decided.
            start_s: When the first stage takes it.

        Returns:
            Its stage times, when the first stage is free again, and when the last stage ends the batch.
        """
        self.log_run(batch, now_s, start_s)
        times = self.stage_times(batch)
        first_end_s, end_s = stages.pass_through(times, now_s, start_s)
        self.log.times.extend((end_s, self.replica.free_blocks))
        return times, first_end_s, end_s

    def log_run(self, batch: Batch, now_s: float, start_s: float) -> None:
        """Log a batch that has just been put in flight; its times, and those of its repeats, follow."""
        decodes = self.replica.in_flight[-1][1]
        index = NO_DECODE_SET if decodes is None else decodes.index
        self.log.begin_run(batch, index, now_s, start_s, self.replica.members)

    @property
    def _is_livelocked(self) -> bool:
        """Whether the same requests would be begun and preempted for ever."""
        return self.replica.num_futile_preemptions > _MAX_FUTILE_PREEMPTIONS and self.time_limit_s == inf

    def finish(self) -> None:
        """End the oldest batch in flight."""
        finished = self.replica.finish()
        if finished:
            self.on_end(finished, True)
            self.log.compact()


class Engine(Protocol):
    """Serves the requests that arrive at one replica."""

    def arrive(self, request: int) -> None:
        """Take a request that arrives now. All that arrive at this instant are seen by the same decision."""
        ...

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose all requests and start nothing until some arrive again; return those that ran and that waited."""
        ...
