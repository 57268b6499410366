"""The event loop of one replica: asks for batches, spends their time, and logs them."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Protocol

from simpy import Interrupt
from simpy.events import Event

from simulator.engine.clock import AFTER_ARRIVALS, LAST_STAGE_COMPLETION, Clock
from simulator.engine.pipeline_stages import Stages, StageUse
from simulator.iteration_time.base import StageTimes
from simulator.log.iterations import IterationLog
from simulator.replica.batch import Batch
from simulator.replica.replica import Replica
from simulator.schedulers.base import Scheduler

Process = Generator[Event, None, None]

_MOST_FRUITLESS = 1000


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

    def enqueue(self, request: int) -> None:
        """Take a request that arrives now, or refuse it."""
        if not self.replica.enqueue(request):
            self.on_end([request], False)

    def one_batch(self, now_s: float) -> Batch | None:
        """Ask the policy for one batch, and carry out what it says; None: it has no tokens."""
        if self._goes_round:
            return None
        num_preempted = len(self.replica.history.preemptions)
        batch = self.scheduler.schedule(self.replica)
        while batch is not None:
            started = self.replica.start(batch)
            if batch.ignored:
                self.on_end(batch.ignored, False)
            if started is not None:
                return started
            batch = self.scheduler.schedule(self.replica) if batch.is_open else None
        self._log_lone_preemptions(num_preempted, now_s)
        return None

    def next_batch(self, now_s: float) -> Batch | None:
        """Ask the policy until it has tokens to compute or nothing to do, and carry out what it says."""
        schedule, start = self.scheduler.schedule, self.replica.start
        num_preempted = len(self.replica.history.preemptions)
        while (batch := schedule(self.replica)) is not None:
            started = start(batch)
            if batch.ignored:
                self.on_end(batch.ignored, False)
            if started is not None:
                return started
            if batch.preempted and self._goes_round:
                break
        self._log_lone_preemptions(num_preempted, now_s)
        return None

    def _log_lone_preemptions(self, num_before: int, now_s: float) -> None:
        self.log.preempt_alone(range(num_before, len(self.replica.history.preemptions)), now_s)

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
        self.log.begin_run(self.replica, batch, now_s, start_s)
        times = self.stage_times(batch)
        first_end_s, end_s = stages.pass_through(times, now_s, start_s)
        self.log.times.extend((end_s, self.replica.free_blocks))
        return times, first_end_s, end_s

    @property
    def _goes_round(self) -> bool:
        """Whether the same requests would be begun and preempted for ever."""
        return self.replica.num_fruitless > _MOST_FRUITLESS and self.time_limit_s == inf

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


class SingleStageEngine:
    """Serves a replica without pipeline: one iteration after the other."""

    def __init__(self, clock: Clock, run: ReplicaRun) -> None:
        self._clock = clock
        self._run = run
        self._idle: Event | None = None
        self._arrived = False
        self._start_s = 0.0
        self._process = clock.process(self._serve())

    def arrive(self, request: int) -> None:
        """Take a request that arrives now. All that arrive at this instant are seen by the same decision."""
        self._run.enqueue(request)
        self._arrived = True
        if self._idle is not None:
            self._clock.trigger_now(self._idle, AFTER_ARRIVALS)
            self._idle = None

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose all requests and start nothing until some arrive again; return those that ran and that waited."""
        run = self._run
        if run.replica.in_flight:
            run.log.cut_off(self._clock.now, 1)
            run.stages[0].busy_s += self._clock.now - self._start_s
        self._idle = None
        self._process.interrupt()
        return run.replica.fail()

    def _serve(self) -> Process:
        while True:
            try:
                yield from self._iterate()
            except Interrupt:
                continue  # the replica failed and has no requests

    def _iterate(self) -> Process:
        clock, run, replica, log = self._clock, self._run, self._run.replica, self._run.log
        stage_times, log_times, time_limit_s = run.stage_times, log.times.extend, run.time_limit_s
        end_s = clock.now
        while True:
            start_s = end_s
            run.cut_off = start_s > time_limit_s
            batch = None if run.cut_off else run.next_batch(start_s)
            if batch is None:
                self._idle = clock.event()
                yield self._idle
                end_s = clock.now
                continue
            log.begin_run(replica, batch, start_s, start_s)
            self._arrived = False
            self._start_s = start_s
            due_s, wake = clock.next_due_s(), None
            for free_blocks in chain((replica.free_blocks,), replica.repeat(batch) if batch.stands else ()):
                end_s += stage_times(batch)[0]
                log_times((end_s, free_blocks))
                # While nothing else is due, a decision that stands needs no event.
                if end_s >= due_s:
                    wake = clock.wake_at(end_s, LAST_STAGE_COMPLETION)
                    assert wake is not None
                    yield wake
                    if self._arrived and batch.heeds_arrivals:
                        break
                    due_s = clock.next_due_s()
                if end_s > time_limit_s:
                    break
            if wake is None or clock.now < end_s:
                clock.wake_at(end_s, LAST_STAGE_COMPLETION)
            run.stages[0].busy_s += end_s - start_s
            run.finish()
