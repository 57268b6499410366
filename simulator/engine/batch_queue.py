"""The event loop of vLLM V1's engine core, with a batch queue."""

from collections import deque
from collections.abc import Sequence

from simpy import Interrupt
from simpy.events import Event

from simulator.engine.base import Process, ReplicaRun
from simulator.engine.clock import AFTER_ARRIVALS, LAST_STAGE_COMPLETION, Clock
from simulator.engine.pipeline_stages import Stages


class BatchQueueEngine:
    """The event loop of a replica with a queue of scheduled batches.

    While there are requests, the engine calls the policy until the queue is full; an empty batch occupies a slot,
    too. Then it waits for the oldest batch to end. Batches pass through the stages first in, first out.
    """

    def __init__(self, clock: Clock, run: ReplicaRun, depth: int) -> None:
        """Start with an empty queue.

        Args:
            clock: Simulated time.
            run: The replica in the simulation.
            depth: Maximum batches in the queue.
        """
        self._clock = clock
        self._run = run
        self._replica = run.replica
        self._depth = depth
        self._stages = Stages(run.stages, run.overlap_sends, run.log.spans, depth)
        # End of each batch in the queue; None: it has no tokens.
        self._queue: deque[float | None] = deque()
        self._times: deque[Sequence[float]] = deque()
        self._idle: Event | None = None
        self._process = clock.process(self._serve())

    def arrive(self, request: int) -> None:
        """Accept a request that arrives now, see `Engine.arrive`."""
        self._run.enqueue(request)
        if self._idle is not None:
            self._clock.trigger_now(self._idle, AFTER_ARRIVALS)
            self._idle = None

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop all requests, see `Engine.fail`."""
        now_s = self._clock.now
        self._run.log.cut_off(now_s, len(self._times))
        self._stages.clear(now_s)
        self._queue.clear()
        self._times.clear()
        self._idle = None
        self._process.interrupt()
        return self._run.replica.fail()

    def _serve(self) -> Process:
        while True:
            try:
                yield from self._iterate()
            except Interrupt:
                continue  # the replica failed and has no requests

    def _iterate(self) -> Process:
        num_idle_calls = 0
        while True:
            while len(self._queue) < self._depth and (self._replica.running or self._replica.waiting):
                changed = self._schedule()
                num_idle_calls = 0 if changed else num_idle_calls + 1
            # A decode waits for at most `depth` calls, and state kept from one call can change the next.
            if (not self._times and num_idle_calls > self._depth + 1) or not self._queue:
                self._queue.clear()
                num_idle_calls = 0
                self._idle = self._clock.event()
                yield self._idle
                continue
            end_s = self._queue[0]
            if end_s is not None:
                wake = self._clock.wake_at(end_s, LAST_STAGE_COMPLETION)
                if wake is not None:
                    yield wake
                self._end_batch()
            self._queue.popleft()

    def _end_batch(self) -> None:
        times = self._times.popleft()
        if len(self._times) + 1 >= len(self._run.stages):
            self._stages.make_room(self._clock.now, times)
        self._run.finish()

    def _schedule(self) -> bool:
        """Call the policy for a batch.

        Returns:
            Whether it scheduled or preempted anything.
        """
        run, stages, now_s = self._run, self._stages, self._clock.now
        start_s = max(now_s, stages.first_free_s)
        if start_s > run.time_limit_s:
            run.cut_off = True
            self._queue.append(None)
            return False
        preemptions = self._replica.request_events.preemptions
        num_before = len(preemptions)
        batch = run.schedule(now_s)
        if batch is None:
            self._queue.append(None)
            return len(preemptions) > num_before
        times, _, end_s = run.send(batch, stages, now_s, start_s)
        self._times.append(times)
        self._queue.append(end_s)
        return True
