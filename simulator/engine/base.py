"""What the event loops share: scheduling, starting and logging batches."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from simpy.events import Event

from simulator.engine.pipeline_stages import Stages
from simulator.log import IterationLog, Members, StageUse
from simulator.replica import Batch, PolicyError, Replica, batch_members
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

    def enqueue(self, request: int) -> None:
        """Queue a request that arrives now, or refuse it."""
        if not self.replica.enqueue(request):
            self.on_end([request], False)

    def schedule(self, now_s: float, *, until_tokens: bool = False) -> Batch | None:
        """Call the policy, and start the batch that it decides.

        Args:
            now_s: Simulated time.
            until_tokens: Whether to call it again after a batch without tokens.

        Returns:
            The batch; None: no batch with tokens was decided.
        """
        replica, num_preempted = self.replica, len(self.replica.request_events.preemptions)
        while until_tokens or not self._is_livelocked:
            step = replica.begin_step()
            try:
                batch = self.scheduler.schedule(replica)
                started = replica.start()
            except PolicyError as error:
                raise self._policy_error(str(error), error) from None
            if batch is not step or started is None:
                self._require_decision(batch, step)
            if step.ignored:
                self.on_end(step.ignored, False)
            if started is not None:
                return started
            if batch is None or not until_tokens or self._is_livelocked:
                break
        self.log.log_lone_preemptions(range(num_preempted, len(replica.request_events.preemptions)), now_s)
        return None

    def _require_decision(self, batch: object, step: Batch) -> None:
        """Check that a policy returned `replica.step` or None, as fits.

        Raises:
            ValueError: It did not.
        """
        if (batch is not None) == step.decides_anything and batch in (None, step):
            return
        if batch is None:
            raise self._policy_error("returned None after it changed the replica; return replica.step")
        if batch is not step:
            raise self._policy_error(f"returned {batch!r:.50}; return replica.step or None")
        raise self._policy_error("returned a batch that decides nothing; return None if there is nothing to do")

    def _policy_error(self, mistake: str, error: PolicyError | None = None) -> ValueError:
        """Return an error that names a line of the policy.

        It is the line where a verb failed, or the first one.
        """
        schedule = type(self.scheduler).schedule
        place = (error and line_in(error, schedule)) or place_of(schedule)
        colon = ":" if error else ""
        return ValueError(f"{place}: {type(self.scheduler).__name__}.schedule{colon} {mistake}")

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
        self.log.begin_run(batch, self.replica.in_flight.flights[-1].decodes, now_s, start_s, self.members)
        times = self.stage_times(batch)
        first_end_s, end_s = stages.pass_through(times, now_s, start_s)
        self.log.times.extend((end_s, self.replica.free_blocks))
        return times, first_end_s, end_s

    def members(self) -> Members:
        """Return the members of the batch started last."""
        return batch_members(self.replica)

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
