"""The event loop of one replica: asks for batches, spends their time, and logs them."""

import math
from collections.abc import Callable, Generator

from simpy.events import Event

from simulator.batch import Batch
from simulator.clock import AFTER_ARRIVALS, LAST_STAGE_COMPLETION, Clock
from simulator.iteration_log import IterationLog
from simulator.iteration_time.base import StageTimes
from simulator.replica import Replica
from simulator.schedulers.base import Scheduler

Process = Generator[Event, None, None]


class Engine:
    """What the engines of one stage and of several have in common.

    Attributes:
        replica: The replica's state, changed by this engine alone.
        scheduler: The policy.
        log: The iterations so far.
        busy_s: Seconds that each pipeline stage has been busy.
        cut_off: Whether the time limit kept an iteration from starting.
    """

    def __init__(
        self,
        clock: Clock,
        replica: Replica,
        scheduler: Scheduler,
        stage_times: StageTimes,
        *,
        num_stages: int,
        log: IterationLog,
        on_finish: Callable[[int], None],
        time_limit_s: float = math.inf,
    ) -> None:
        """Get ready to serve.

        Args:
            clock: Simulated time, shared with the other replicas.
            replica: The replica's state.
            scheduler: The policy.
            stage_times: Seconds per stage of a batch.
            num_stages: Pipeline stages.
            log: Where the iterations are written.
            on_finish: Called with the number of requests that ended in an iteration.
            time_limit_s: No iteration starts later.
        """
        self.replica = replica
        self.scheduler = scheduler
        self.log = log
        self.busy_s = [0.0] * num_stages
        self.cut_off = False
        self._clock = clock
        self._stage_times = stage_times
        self._on_finish = on_finish
        self._time_limit_s = time_limit_s

    def arrive(self, request: int) -> None:
        """Take a request that arrives now. All that arrive at this instant are seen by the same decision."""
        raise NotImplementedError

    def _next_batch(self) -> Batch | None:
        """Ask the policy until it has tokens to compute or nothing to do, and carry out what it says."""
        schedule, start = self.scheduler.schedule, self.replica.start
        while (batch := schedule(self.replica)) is not None:
            if start(batch):
                return batch
        return None

    def _finish(self) -> None:
        finished = self.replica.finish()
        if finished:
            self._on_finish(len(finished))
            self.log.compact()


class SingleStageEngine(Engine):
    """Serves a replica without pipeline: one iteration after the other."""

    def __init__(self, clock: Clock, *args: object, **options: object) -> None:
        super().__init__(clock, *args, **options)  # type: ignore[arg-type]
        self._idle: Event | None = None
        self._arrived = False
        clock.process(self._serve())

    def arrive(self, request: int) -> None:
        """Take a request that arrives now. All that arrive at this instant are seen by the same decision."""
        self.replica.enqueue(request)
        self._arrived = True
        if self._idle is not None:
            self._clock.trigger_now(self._idle, AFTER_ARRIVALS)
            self._idle = None

    def _serve(self) -> Process:
        clock, replica, log, busy_s = self._clock, self.replica, self.log, self.busy_s
        stage_times, repeat, time_limit_s = self._stage_times, replica.repeat, self._time_limit_s
        log_times, members, next_due_s = log.times.extend, log.members, clock.next_due_s
        while True:
            start_s = clock.now
            self.cut_off = start_s > time_limit_s
            batch = None if self.cut_off else self._next_batch()
            if batch is None:
                self._idle = clock.event()
                yield self._idle
                continue
            log.begin_run(replica, batch, start_s, start_s)
            self._arrived = False
            end_s = start_s
            while True:
                end_s += stage_times(batch)[0]
                log_times((end_s, replica.free_blocks))
                # While nothing else is due, a decision that stands needs no event.
                wake = clock.wake_at(end_s, LAST_STAGE_COMPLETION) if end_s >= next_due_s() else None
                if wake is not None:
                    yield wake
                if not batch.stands or (self._arrived and batch.heeds_arrivals) or end_s > time_limit_s:
                    break
                if not repeat(batch):
                    break
                if members is not None:
                    members.append(members[-1])
            if wake is None:
                clock.wake_at(end_s, LAST_STAGE_COMPLETION)
            busy_s[0] += end_s - start_s
            self._finish()
