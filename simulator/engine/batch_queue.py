"""The event loop of vLLM V1's engine core, with a batch queue."""

from collections import deque
from collections.abc import Sequence
from math import inf

from simulator.engine.base import Engine, ReplicaRun
from simulator.engine.clock import AFTER_ARRIVALS, LAST_STAGE_COMPLETION, Clock
from simulator.engine.pipeline_stages import Stages


class BatchQueueEngine(Engine):
    """The event loop of a replica with a queue of scheduled batches.

    While there are requests, the engine calls the policy until the queue is full; an empty batch occupies a slot,
    too. Then it waits for the oldest batch to end. Batches pass through the stages first in, first out.
    """

    def __init__(self, clock: Clock, run: ReplicaRun, is_driven: bool, depth: int) -> None:
        """Start with an empty queue.

        Args:
            clock: Simulated time.
            run: The replica in the simulation.
            is_driven: Whether the clock drives it.
            depth: Maximum batches in the queue.
        """
        self._depth = depth
        self._stages = Stages(run.stages, run.overlap_sends, run.log.spans, depth)
        # End of each batch in the queue; infinity: it has no tokens.
        self._queue: deque[float] = deque()
        self._times: deque[Sequence[float]] = deque()
        super().__init__(clock, run, is_driven)

    def _priority(self) -> int:
        return LAST_STAGE_COMPLETION if self._queue else AFTER_ARRIVALS

    def _note_arrival(self, now_s: float) -> None:
        if self.next_s == inf:
            self.next_s = now_s

    def _drop_batches(self, now_s: float) -> None:
        self._run.log.cut_off(now_s, len(self._times))
        self._stages.clear(now_s)
        self._queue.clear()
        self._times.clear()

    def _act(self) -> None:
        now_s = self.next_s
        if self._queue:
            self._end_batch(now_s)
        num_idle_calls = 0
        while True:
            while len(self._queue) < self._depth and (self._run.replica.running or self._run.replica.waiting):
                changed = self._schedule(now_s)
                num_idle_calls = 0 if changed else num_idle_calls + 1
            # A decode waits for at most `depth` calls, and state kept from one call can change the next.
            if (not self._times and num_idle_calls > self._depth + 1) or not self._queue:
                self._queue.clear()
                self.next_s = inf
                return
            if self._queue[0] != inf:
                self.next_s = self._queue[0]
                return
            self._queue.popleft()

    def _end_batch(self, now_s: float) -> None:
        times = self._times.popleft()
        self._queue.popleft()
        if len(self._times) + 1 >= len(self._run.stages):
            self._stages.make_room(now_s, times)
        self._run.finish(now_s)

    def _schedule(self, now_s: float) -> bool:
        """Call the policy for a batch.

        Returns:
            Whether it scheduled or preempted anything.
        """
        run, stages = self._run, self._stages
        start_s = max(now_s, stages.first_free_s)
        if start_s > run.time_limit_s:
            run.cut_off = True
            self._queue.append(inf)
            return False
        preemptions = run.replica.request_events.preemptions
        num_before = len(preemptions)
        batch = run.schedule(now_s)
        if batch is None:
            self._queue.append(inf)
            return len(preemptions) > num_before
        times, _, end_s = run.send(batch, stages, now_s, start_s)
        self._times.append(times)
        self._queue.append(end_s)
        return True
