"""What the event loops share: scheduling, starting and logging batches."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from simpy.events import Event

from simulator.engine.pipeline_stages import Stages
from simulator.iteration_time import StageTimes
from simulator.log import IterationLog, StageUse
from simulator.replica import Batch, PolicyError, Replica
from simulator.schedulers import Scheduler
from traces.shared.user_code import line_in, place_of

Process = Generator[Event, None, None]

_MAX_FUTILE_PREEMPTIONS = 1000


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
    stage_times: StageTimes
    log: IterationLog
    on_end: Callable[[Sequence[int], bool], None]
    time_limit_s: float
    stages: Sequence[StageUse]
    overlap_sends: bool = False
    cut_off: bool = False
    blocks_needed: list[int] = field(default_factory=list)

    def enqueue(self, request: int) -> None:
        """Queue a request that arrives now, or refuse it."""
        if not self.replica.enqueue(request):
            self.on_end([request], False)

    def schedule(self, now_s: float) -> Batch | None:
        """Call the policy once, and start the batch that it decides.

        Returns None if the batch has no tokens.
        """
        if self._is_livelocked:
            return None
        num_preempted = len(self.replica.request_events.preemptions)
        started, _ = self._step()
        if started is None:
            self._log_lone_preemptions(num_preempted, now_s)
        return started

    def schedule_until_tokens(self, now_s: float) -> Batch | None:
        """Call the policy until a batch has tokens, and start it.

        Returns None if no batch can be started.
        """
        num_preempted = len(self.replica.request_events.preemptions)
        while True:
            started, decided = self._step()
            if started is not None:
                return started
            if not decided or self._is_livelocked:
                self._log_lone_preemptions(num_preempted, now_s)
                return None

    def _step(self) -> tuple[Batch | None, bool]:
        """Call the policy.

        Returns:
            The batch that it put in flight, and whether it decided anything.
        """
        replica = self.replica
        step = replica.begin_step()
        try:
            batch = self.scheduler.schedule(replica)
            started = replica.start()
        except PolicyError as error:
            raise self._policy_error(f"is wrong: {error}", error) from None
        if batch is None:
            if step.decides_anything:
                raise self._policy_error("returned None after it changed the replica; return replica.step")
        elif batch is not step:
            raise self._policy_error(f"returned {type(batch).__name__}; return replica.step or None")
        elif not step.decides_anything:
            raise self._policy_error("returned a batch that decides nothing; return None if there is nothing to do")
        if step.chunks or step.ignored:
            self._report(step)
        return started, batch is not None

    def _policy_error(self, mistake: str, error: PolicyError | None = None) -> ValueError:
        """Return an error that names the line of the policy where a verb failed, or its first line."""
        schedule = type(self.scheduler).schedule
        place = (error and line_in(error, schedule)) or place_of(schedule)
        return ValueError(f"{place}: {type(self.scheduler).__name__}.schedule {mistake}")

    def _report(self, batch: Batch) -> None:
        """Report a batch's refused requests, and log KV blocks needed at admission."""
        if batch.ignored:
            self.on_end(batch.ignored, False)
        admissions, needed = self.replica.request_events.admissions, self.blocks_needed
        for request, *_ in admissions[len(needed) :]:
            needed.append(self.replica.blocks_to_admit(self.replica.requests.known_tokens[request]))

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
        self.log.begin_run(batch, self.replica.in_flight.flights[-1].decodes, now_s, start_s, self.replica.members)
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
