"""The event loop of a replica with pipeline parallelism."""

from collections import deque
from collections.abc import Sequence
from math import inf

from simulator.engine.base import Engine, ReplicaRun
from simulator.engine.clock import AFTER_ARRIVALS, FIRST_STAGE_COMPLETION, LAST_STAGE_COMPLETION, Clock
from simulator.engine.pipeline_stages import Stages


class PipelineEngine(Engine):
    """The event loop of a replica with pipeline stages.

    The engine calls the policy when the last stage completes a batch, when the first stage completes one
    and when requests have arrived, in this order if they coincide. Batches pass through the stages first
    in, first out, with at most one batch in flight per stage.
    """

    def __init__(self, clock: Clock, run: ReplicaRun, is_driven: bool) -> None:
        self._num_stages = len(run.stages)
        self._stages = Stages(run.stages, run.overlap_sends, run.log.spans)
        self._first_ends: deque[float] = deque()
        self._last_ends: deque[float] = deque()
        self._times_in_flight: deque[Sequence[float]] = deque()
        self._arrived_s = inf
        super().__init__(clock, run, is_driven)

    def _note_arrival(self, now_s: float) -> None:
        self._arrived_s = now_s
        self._select_next()

    def _drop_batches(self, now_s: float) -> None:
        self._run.log.cut_off(now_s, len(self._last_ends))
        self._stages.clear(now_s)
        for ends in (self._first_ends, self._last_ends):
            ends.clear()
        self._times_in_flight.clear()
        self._arrived_s = inf

    def _select_next(self) -> None:
        last_s = self._last_ends[0] if self._last_ends else inf
        first_s = self._first_ends[0] if self._first_ends else inf
        self.next_s = min(last_s, first_s, self._arrived_s)

    def _priority(self) -> int:
        if self._last_ends and self._last_ends[0] == self.next_s:
            return LAST_STAGE_COMPLETION
        if self._first_ends and self._first_ends[0] == self.next_s:
            return FIRST_STAGE_COMPLETION
        return AFTER_ARRIVALS

    def _act(self) -> None:
        now_s, priority = self.next_s, self._priority()
        if priority == LAST_STAGE_COMPLETION:
            self._end_batch(now_s)
        elif priority == FIRST_STAGE_COMPLETION:
            self._first_ends.popleft()
        else:
            self._arrived_s = inf
        self._form_batch(now_s)
        self._select_next()

    def _end_batch(self, now_s: float) -> None:
        """End the oldest batch in flight."""
        times = self._times_in_flight.popleft()
        if len(self._last_ends) == self._num_stages:
            self._stages.make_room(now_s, times)
        self._run.finish(now_s)
        self._last_ends.popleft()

    def _form_batch(self, now_s: float) -> None:
        """Schedule a batch and send it through the stages.

        If the pipeline is full, do nothing.
        """
        if len(self._last_ends) == self._num_stages:
            return
        run, stages = self._run, self._stages
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
