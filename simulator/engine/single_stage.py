"""The event loop of a replica without pipeline parallelism."""

from math import inf

from simulator.engine.base import Engine, ReplicaRun
from simulator.engine.clock import AFTER_ARRIVALS, LAST_STAGE_COMPLETION, Clock
from simulator.replica import Batch


class SingleStageEngine(Engine):
    """The event loop of a replica without pipeline parallelism.

    It runs one iteration after another.
    """

    def __init__(self, clock: Clock, run: ReplicaRun, is_driven: bool) -> None:
        self._batch: Batch | None = None
        self._start_s = 0.0
        self._arrived = False
        super().__init__(clock, run, is_driven)

    def _priority(self) -> int:
        return AFTER_ARRIVALS if self._batch is None else LAST_STAGE_COMPLETION

    def _note_arrival(self, now_s: float) -> None:
        self._arrived = True
        if self.next_s == inf:
            self.next_s = now_s

    def _drop_batches(self, now_s: float) -> None:
        if self._batch is not None:
            self._run.log.cut_off(now_s, 1)
            self._run.stages[0].busy_s += now_s - self._start_s
            self._batch = None

    def _act(self) -> None:
        run, batch, now_s = self._run, self._batch, self.next_s
        if batch is not None:
            stands = not (self._arrived and batch.until_arrival) and now_s <= run.time_limit_s
            if stands and run.replica.repeat(batch):
                self._iterate(batch)
                return
            run.stages[0].busy_s += now_s - self._start_s
            self._batch = None
            run.finish(now_s)
        self._start(now_s)

    def _start(self, now_s: float) -> None:
        """Start the next batch; idle if there is none."""
        run = self._run
        run.cut_off = now_s > run.time_limit_s
        batch = None if run.cut_off else run.schedule(now_s, True)
        self.next_s = inf
        if batch is None:
            return
        run.begin(batch, now_s, now_s)
        self._arrived = False
        self._batch, self._start_s, self.next_s = batch, now_s, now_s
        self._iterate(batch)

    def _iterate(self, batch: Batch) -> None:
        """Time an iteration of the batch in flight, and log it."""
        self.next_s += self._run.stage_times.of_single_stage(batch)
        self._run.log.add(self.next_s, self._run.replica.kv.free_blocks)
