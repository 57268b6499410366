"""The event loop of a replica with pipeline parallelism."""

from collections import deque
from collections.abc import Sequence

from simpy import Interrupt
from simpy.events import Event

from simulator.engine.base import Process, ReplicaRun
from simulator.engine.clock import AFTER_ARRIVALS, FIRST_STAGE_COMPLETION, LAST_STAGE_COMPLETION, Clock
from simulator.engine.pipeline_stages import Stages


class PipelineEngine:
    """The event loop of a replica with pipeline stages.

    The engine calls the policy when the last stage completes a batch, when the first stage completes one
    and when requests have arrived, in this order if they coincide. Batches pass through the stages first
    in, first out, with at most one batch in flight per stage.
    """

    def __init__(self, clock: Clock, run: ReplicaRun) -> None:
        self._clock = clock
        self._run = run
        self._num_stages = len(run.stages)
        self._stages = Stages(run.stages, run.overlap_sends, run.log.spans)
        self._first_ends: deque[float] = deque()
        self._last_ends: deque[float] = deque()
        self._times_in_flight: deque[Sequence[float]] = deque()
        self._idle: list[Event] = []
        self._call_is_due = False
        self._processes = [
            clock.process(self._serve_stage(self._first_ends, FIRST_STAGE_COMPLETION)),
            clock.process(self._serve_stage(self._last_ends, LAST_STAGE_COMPLETION)),
        ]

    def arrive(self, request: int) -> None:
        """Accept a request that arrives now, see `Engine.arrive`."""
        self._run.enqueue(request)
        if not self._call_is_due:
            self._call_is_due = True
            self._clock.call_now(self._after_arrivals, AFTER_ARRIVALS)

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop all requests, see `Engine.fail`."""
        now_s = self._clock.now
        self._run.log.cut_off(now_s, len(self._last_ends))
        self._stages.clear(now_s)
        for ends in (self._first_ends, self._last_ends):
            ends.clear()
        self._times_in_flight.clear()
        self._idle.clear()
        for process in self._processes:
            process.interrupt()
        return self._run.replica.fail()

    def _after_arrivals(self, _: Event) -> None:
        self._call_is_due = False
        self._form_batch()

    def _serve_stage(self, ends: deque[float], priority: int) -> Process:
        """Form a batch whenever a stage completes one.

        The last stage ends its batch first.
        """
        clock = self._clock
        while True:
            try:
                if not ends:
                    idle = clock.event()
                    self._idle.append(idle)
                    yield idle
                wake = clock.wake_at(ends[0], priority)
                if wake is not None:
                    yield wake
            except Interrupt:  # the replica failed and has no batches
                continue
            if ends is self._last_ends:
                self._end_batch()
            ends.popleft()
            self._form_batch()

    def _end_batch(self) -> None:
        """End the oldest batch in flight."""
        times = self._times_in_flight.popleft()
        if len(self._last_ends) == self._num_stages:
            self._stages.make_room(self._clock.now, times)
        self._run.finish()

    def _form_batch(self) -> None:
        """Schedule a batch and send it through the stages.

        If the pipeline is full, do nothing.
        """
        if len(self._last_ends) == self._num_stages:
            return
        run, stages, now_s = self._run, self._stages, self._clock.now
        start_s = max(now_s, stages.first_free_s)
        if start_s > run.time_limit_s:
            run.cut_off = True
            return
        batch = run.schedule(now_s, until_tokens=True)
        if batch is None:
            return
        times, first_end_s, end_s = run.send(batch, stages, now_s, start_s)
        self._first_ends.append(first_end_s)
        self._last_ends.append(end_s)
        self._times_in_flight.append(times)
        if self._idle:
            for idle in self._idle:
                idle.succeed()
            self._idle.clear()
