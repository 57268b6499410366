"""What the event loops share: scheduling, starting and logging batches."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from simpy.events import Event

from simulator.engine.pipeline_stages import Stages
from simulator.log import IterationLog, StageUse
from simulator.replica import Batch, Replica
from simulator.schedulers import Scheduler
from traces.shared.user_code import place_of

Process = Generator[Event, None, None]

_MAX_FUTILE_PREEMPTIONS = 1000
_MAX_EMPTY_BATCHES = 1000  # in a row; steps of one decision may be empty


@dataclass
class ReplicaRun:
    """One replica in a simulation: inputs and logs of its engine.

    Attributes:
        replica: The replica, changed by its engine alone.
        scheduler: The policy.
        stage_times: Returns the seconds that a batch takes in each pipeline stage.
        log: The iterations so far.
        on_end: Called with requests that have ended; True: they emitted their last token, False: they were refused.
        time_limit_s: Latest start of an iteration, seconds.
        stages: Time use of each pipeline stage.
        overlap_sends: Whether a stage computes its next batch while it sends.
        cut_off: Whether the time limit kept an iteration from starting.
        blocks_needed: KV blocks needed for each admission, prefix cache hits included.
    """

    replica: Replica
    scheduler: Scheduler
    stage_times: Callable[[Batch], Sequence[float]]
    log: IterationLog
    on_end: Callable[[Sequence[int], bool], None]
    time_limit_s: float
    stages: Sequence[StageUse]
    overlap_sends: bool = False
    cut_off: bool = False
    blocks_needed: list[int] = field(default_factory=list)

    def enqueue(self, request: int) -> None:
        """Enqueue a request that arrives now, or refuse it."""
        if not self.replica.enqueue(request):
            self.on_end([request], False)

    def schedule_once(self, now_s: float) -> Batch | None:
        """Ask the policy for one batch, all its steps, and start it.

        Returns None if the batch has no tokens.
        """
        if self._is_livelocked:
            return None
        num_preempted = len(self.replica.request_events.preemptions)
        batch, num_empty = self.scheduler.schedule(self.replica), 0
        while batch is not None:
            started = self._start(batch)
            self._report(batch)
            if started is not None:
                return started
            num_empty = self._count_empty(batch, num_empty)
            batch = self.scheduler.schedule(self.replica) if batch.is_open else None
        self._log_lone_preemptions(num_preempted, now_s)
        return None

    def schedule_until_tokens(self, now_s: float) -> Batch | None:
        """Ask the policy until a batch has tokens, and start it.

        Returns None if no batch can be started.
        """
        replica, schedule, num_empty = self.replica, self.scheduler.schedule, 0
        num_preempted = len(replica.request_events.preemptions)
        while (batch := schedule(replica)) is not None:
            started = self._start(batch)
            if batch.chunks or batch.ignored:
                self._report(batch)
            if started is not None:
                return started
            num_empty = self._count_empty(batch, num_empty)
            if batch.preempted and self._is_livelocked:
                break
        self._log_lone_preemptions(num_preempted, now_s)
        return None

    def _start(self, batch: Batch) -> Batch | None:
        try:
            return self.replica.start(batch)
        except Exception as error:
            raise self._policy_error(f"a batch that the replica cannot start: {error}") from error

    def _count_empty(self, batch: Batch, num_before: int) -> int:
        """Return the number of empty batches in a row."""
        if batch.decides_anything:
            return 0
        if num_before == _MAX_EMPTY_BATCHES:
            raise self._policy_error("an empty batch; return None if there is nothing to compute")
        return num_before + 1

    def _policy_error(self, returned: str) -> ValueError:
        policy = type(self.scheduler)
        return ValueError(f"{place_of(policy.schedule)}: {policy.__name__}.schedule returned {returned}")

    def _report(self, batch: Batch) -> None:
        """Report a batch's refused requests, and log KV blocks needed at admission."""
        if batch.ignored:
            self.on_end(batch.ignored, False)
        admissions, needed = self.replica.request_events.admissions, self.blocks_needed
        if len(admissions) > len(needed):
            known_tokens = self.replica.requests.known_tokens
            needed += (
                self.scheduler.blocks_to_admit(self.replica, known_tokens[request])
                for request, *_ in admissions[len(needed) :]
            )

    def _log_lone_preemptions(self, num_before: int, now_s: float) -> None:
        self.log.log_lone_preemptions(range(num_before, len(self.replica.request_events.preemptions)), now_s)

    def send(self, batch: Batch, stages: Stages, now_s: float, start_s: float) -> tuple[Sequence[float], float, float]:
        """Send a batch through the pipeline stages, and log it.

        Args:
            batch: The batch, just put in flight.
            stages: The stages.
            now_s: When it was scheduled.
            start_s: When it starts in the first stage.

        Returns:
            Its stage times, when the first stage is free again, and when the last stage completes the batch.
        """
        self.log.begin_run(batch, self.replica.in_flight[-1][1], now_s, start_s, self.replica.members)
        times = self.stage_times(batch)
        first_end_s, end_s = stages.pass_through(times, now_s, start_s)
        self.log.times.extend((end_s, self.replica.free_blocks))
        return times, first_end_s, end_s

    @property
    def _is_livelocked(self) -> bool:
        """Whether the same requests would be started and preempted forever."""
        return self.replica.num_futile_preemptions > _MAX_FUTILE_PREEMPTIONS and self.time_limit_s == inf

    def finish(self) -> None:
        """End the oldest batch in flight."""
        finished = self.replica.finish()
        if finished:
            self.on_end(finished, True)
            self.log.compact()


class Engine(Protocol):
    """The event loop that serves the requests of one replica."""

    def arrive(self, request: int) -> None:
        """Accept a request that arrives now.

        All arrivals of an instant are seen by the same decision.
        """
        ...

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop all requests and idle until the next arrival.

        Returns:
            Running requests and waiting requests.
        """
        ...
