"""The event loop of one replica: forms batches and passes them through the pipeline stages."""

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence

from simpy.events import Event

from simulator.batch import Batch
from simulator.clock import AFTER_ARRIVALS, FIRST_STAGE_COMPLETION, LAST_STAGE_COMPLETION, Clock
from simulator.iteration_log import NO_DECODE_SET, IterationLog, members_of
from simulator.iteration_time.base import StageTimes
from simulator.replica import Replica
from simulator.schedulers.base import Scheduler

Process = Generator[Event, None, None]


class Engine:
    """Serves the requests of one replica.

    The scheduler is asked for a batch when the last stage ends one, when the first stage ends one and
    when requests have arrived, in this order if it happens at the same instant. Batches pass through
    the stages first in, first out; at most one per stage is in flight.

    Attributes:
        replica: The replica's state.
        scheduler: The policy.
        log: The iterations so far.
        busy_s: Seconds that each stage has been busy.
        cut_off: Whether the time limit kept an iteration from starting.
    """

    def __init__(
        self,
        clock: Clock,
        replica: Replica,
        scheduler: Scheduler,
        stage_times: StageTimes,
        num_stages: int,
        *,
        log: IterationLog,
        on_finish: Callable[[int], None],
        time_limit_s: float = math.inf,
    ) -> None:
        """Start the processes of the replica.

        Args:
            clock: Simulated time, shared with the other replicas.
            replica: The replica's state, changed by this engine alone.
            scheduler: The policy.
            stage_times: Seconds per stage of a batch.
            num_stages: Pipeline stages.
            log: Where the iterations are written.
            on_finish: Called with the number of requests that ended in an iteration.
            time_limit_s: No iteration starts later.
        """
        self.replica = replica
        self.log = log
        self.busy_s = [0.0] * num_stages
        self.cut_off = False
        self._clock = clock
        self.scheduler = scheduler
        self._schedule = scheduler.schedule
        self._stage_times = stage_times
        self._num_stages = num_stages
        self._log_row = log.tail.extend
        self._on_finish = on_finish
        self._time_limit_s = time_limit_s
        self._stage_free_s = [0.0] * num_stages
        self._first_ends: deque[float] = deque()
        self._last_ends: deque[float] = deque()
        self._called = False
        self._first_idle: Event | None = None
        self._last_idle: Event | None = None
        clock.process(self._serve_last_stage())
        if num_stages > 1:
            clock.process(self._serve_first_stage())

    def arrive(self, request: int) -> None:
        """Take a request that arrives now. All that arrive at this instant are seen by the same decision."""
        self.replica.enqueue(request)
        if len(self._last_ends) < self._num_stages and not self._called:
            self._called = True
            self._clock.call_now(AFTER_ARRIVALS, self._after_arrivals)

    def _after_arrivals(self, _: Event) -> None:
        self._called = False
        self._form_batch(self._clock.now)

    def _serve_last_stage(self) -> Process:
        clock, finish, last_ends = self._clock, self.replica.finish, self._last_ends
        while True:
            if not last_ends:
                self._last_idle = clock.event()
                yield self._last_idle
            now_s = last_ends[0]
            wake = clock.wake_at(now_s, LAST_STAGE_COMPLETION)
            if wake is not None:
                yield wake
            last_ends.popleft()
            finished = finish()
            if finished:
                self._on_finish(len(finished))
                self.log.compact()
            self._form_batch(now_s)

    def _serve_first_stage(self) -> Process:
        clock, first_ends = self._clock, self._first_ends
        while True:
            if not first_ends:
                self._first_idle = clock.event()
                yield self._first_idle
            now_s = first_ends[0]
            wake = clock.wake_at(now_s, FIRST_STAGE_COMPLETION)
            if wake is not None:
                yield wake
            first_ends.popleft()
            self._form_batch(now_s)

    def _form_batch(self, now_s: float) -> None:
        """Ask the scheduler for a batch and, if there is one, put it in flight."""
        if len(self._last_ends) == self._num_stages:
            return
        first_free_s = self._stage_free_s[0]
        start_s = now_s if now_s > first_free_s else first_free_s
        if start_s > self._time_limit_s:
            self.cut_off = True
            return
        replica = self.replica
        while (batch := self._schedule(replica)) is not None:
            if replica.start(batch):
                break
        else:
            return
        stage_times = self._stage_times(batch)
        end_s = start_s + stage_times[0]
        self.busy_s[0] += stage_times[0]
        self._stage_free_s[0] = end_s
        if self._num_stages > 1:
            end_s = self._pass_on(stage_times, end_s)
        decodes = replica.in_flight[-1][1]
        decode_set = NO_DECODE_SET if decodes is None else decodes.index
        self._log_row(
            (
                now_s,
                start_s,
                end_s,
                batch.num_prefill_tokens,
                batch.num_decodes,
                batch.prefill_context_tokens + batch.decode_context_tokens,
                replica.free_blocks,
                decode_set,
            )
        )
        if self.log.members is not None:
            self.log.members.append(members_of(replica, batch))
        if batch.stands and self._num_stages == 1:
            end_s = self._repeat(batch, end_s, decode_set)
        self._last_ends.append(end_s)
        if self._last_idle is not None:
            self._last_idle.succeed()
            self._last_idle = None

    def _repeat(self, batch: Batch, end_s: float, decode_set: int) -> float:
        """Go on with a decision that stands until something else is due, and return when the last iteration ends."""
        replica, stage_times, log_row, members = self.replica, self._stage_times, self._log_row, self.log.members
        due_s = min(self._clock.next_due_s, math.nextafter(self._time_limit_s, math.inf))
        num_prefill_tokens, num_decodes = batch.num_prefill_tokens, batch.num_decodes
        first_start_s = end_s
        while end_s < due_s and replica.repeat(batch):
            start_s = end_s
            end_s = start_s + stage_times(batch)[0]
            context_tokens = batch.prefill_context_tokens + batch.decode_context_tokens
            free_blocks = replica.free_blocks
            log_row((start_s, start_s, end_s, num_prefill_tokens, num_decodes, context_tokens, free_blocks, decode_set))
            if members is not None:
                members.append(members[-1])
        self.busy_s[0] += end_s - first_start_s
        self._stage_free_s[0] = end_s
        return end_s

    def _pass_on(self, stage_times: Sequence[float], first_end_s: float) -> float:
        """Book the later stages for a batch that leaves the first one, and return when it leaves the last."""
        self._first_ends.append(first_end_s)
        if self._first_idle is not None:
            self._first_idle.succeed()
            self._first_idle = None
        end_s = first_end_s
        for stage in range(1, self._num_stages):
            end_s = max(end_s, self._stage_free_s[stage]) + stage_times[stage]
            self._stage_free_s[stage] = end_s
            self.busy_s[stage] += stage_times[stage]
        return end_s
