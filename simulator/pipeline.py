"""The event loop of a replica whose layers are spread over pipeline stages."""

from collections import deque
from collections.abc import Callable, Sequence

from simpy.events import Event

from simulator.clock import AFTER_ARRIVALS, FIRST_STAGE_COMPLETION, LAST_STAGE_COMPLETION, Clock
from simulator.engine import Process, ReplicaRun


class PipelineEngine:
    """Serves a replica of several stages, at most as many batches in flight.

    The policy is asked for a batch when the last stage ends one, when the first stage ends one and when
    requests have arrived, in this order if it happens at the same instant. Batches pass through the
    stages first in, first out.
    """

    def __init__(self, clock: Clock, run: ReplicaRun) -> None:
        self._clock = clock
        self._run = run
        self._stage_free_s = [0.0] * len(run.busy_s)
        self._first_ends: deque[float] = deque()
        self._last_ends: deque[float] = deque()
        self._idle: list[Event] = []
        self._asked = False
        clock.process(self._serve_stage(self._first_ends, FIRST_STAGE_COMPLETION))
        clock.process(self._serve_stage(self._last_ends, LAST_STAGE_COMPLETION, run.finish))

    def arrive(self, request: int) -> None:
        """Take a request that arrives now. All that arrive at this instant are seen by the same decision."""
        self._run.replica.enqueue(request)
        if not self._asked:
            self._asked = True
            self._clock.call_now(self._after_arrivals, AFTER_ARRIVALS)

    def _after_arrivals(self, _: Event) -> None:
        self._asked = False
        self._form_batch()

    def _serve_stage(self, ends: deque[float], priority: int, on_end: Callable[[], None] | None = None) -> Process:
        """Ask for a batch whenever a stage ends one, after what else has to happen then."""
        clock = self._clock
        while True:
            if not ends:
                idle = clock.event()
                self._idle.append(idle)
                yield idle
            wake = clock.wake_at(ends[0], priority)
            if wake is not None:
                yield wake
            ends.popleft()
            if on_end is not None:
                on_end()
            self._form_batch()

    def _form_batch(self) -> None:
        """Ask for a batch unless every stage may have one, and send it through the stages."""
        if len(self._last_ends) == len(self._stage_free_s):
            return
        now_s, first_free_s = self._clock.now, self._stage_free_s[0]
        start_s = now_s if now_s > first_free_s else first_free_s
        run = self._run
        if start_s > run.time_limit_s:
            run.cut_off = True
            return
        batch = run.next_batch()
        if batch is None:
            return
        run.log.begin_run(run.replica, batch, now_s, start_s)
        end_s = self._pass_through(run.stage_times(batch), start_s)
        run.log.times.extend((end_s, run.replica.free_blocks))

    def _pass_through(self, stage_times: Sequence[float], start_s: float) -> float:
        """Book the stages for a batch that the first one takes at `start_s`, and return when it ends."""
        free_s, busy_s = self._stage_free_s, self._run.busy_s
        end_s = start_s
        for stage, seconds in enumerate(stage_times):
            end_s = (end_s if end_s > free_s[stage] else free_s[stage]) + seconds
            free_s[stage] = end_s
            busy_s[stage] += seconds
        self._first_ends.append(free_s[0])
        self._last_ends.append(end_s)
        for idle in self._idle:
            idle.succeed()
        self._idle.clear()
        return end_s
