"""The event loop of a replica without pipeline parallelism."""

from itertools import chain

from simpy import Interrupt
from simpy.events import Event

from simulator.engine.base import Process, ReplicaRun
from simulator.engine.clock import AFTER_ARRIVALS, LAST_STAGE_COMPLETION, Clock


class SingleStageEngine:
    """The event loop of a replica without pipeline parallelism.

    It runs one iteration after another.
    """

    def __init__(self, clock: Clock, run: ReplicaRun) -> None:
        self._clock = clock
        self._run = run
        self._idle: Event | None = None
        self._arrived = False
        self._start_s = 0.0
        self._process = clock.process(self._serve())

    def arrive(self, request: int) -> None:
        """Accept a request that arrives now, see `Engine.arrive`."""
        self._run.enqueue(request)
        self._arrived = True
        if self._idle is not None:
            self._clock.trigger_now(self._idle, AFTER_ARRIVALS)
            self._idle = None

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop all requests, see `Engine.fail`."""
        run = self._run
        if run.replica.in_flight.flights:
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
        clock, run, replica, begin_run = self._clock, self._run, self._run.replica, self._run.log.begin_run
        flights = replica.in_flight.flights
        stage_times, log_times, time_limit_s = run.stage_times, run.log.times.extend, run.time_limit_s
        end_s = clock.now
        while True:
            start_s = end_s
            run.cut_off = start_s > time_limit_s
            batch = None if run.cut_off else run.schedule(start_s, until_tokens=True)
            if batch is None:
                self._idle = clock.event()
                yield self._idle
                end_s = clock.now
                continue
            begin_run(batch, flights[-1].decodes, start_s, start_s, run.members)
            self._arrived = False
            self._start_s = start_s
            due_s, wake = clock.next_due_s(), None
            for free_blocks in chain((replica.free_blocks,), replica.repeat(batch) if batch.repeats else ()):
                end_s += stage_times(batch)[0]
                log_times((end_s, free_blocks))
                # While no other event is due, a repeat needs no event of its own.
                if end_s >= due_s:
                    wake = clock.wake_at(end_s, LAST_STAGE_COMPLETION)
                    assert wake is not None
                    yield wake
                    if self._arrived and batch.until_arrival:
                        break
                    due_s = clock.next_due_s()
                if end_s > time_limit_s:
                    break
            if wake is None or clock.now < end_s:
                clock.wake_at(end_s, LAST_STAGE_COMPLETION)
            run.stages[0].busy_s += end_s - start_s
            run.finish()
