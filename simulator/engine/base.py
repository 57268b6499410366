"""What the event loops share: scheduling, starting and logging batches."""

from collections.abc import Callable, Sequence
from math import inf

from simpy.events import Event

from simulator.engine.clock import Clock
from simulator.engine.pipeline_stages import Stages
from simulator.iteration_time import StageTimes
from simulator.log import NO_DECODE_SET, IterationLog, StageUse
from simulator.replica import Batch, PolicyError, Replica, batch_members
from simulator.schedulers import Scheduler
from traces.shared.user_code import line_in, place_of

# Called with requests that have ended, whether they emitted their last token, and when.
OnEnd = Callable[[Sequence[int], bool, float], bool]

_MAX_FUTILE_PREEMPTIONS = 1000


class ReplicaRun:
    """One replica in a simulation: inputs and logs of its engine.

    Attributes:
        replica: The replica, changed by its engine alone.
        scheduler: The policy.
        stage_times: Seconds of a batch in each pipeline stage.
        log: The iterations so far.
        time_limit_s: Latest start of an iteration, seconds.
        stages: Time use of each pipeline stage.
        overlap_sends: Whether a stage computes its next batch while it sends.
        cut_off: Whether the time limit kept an iteration from starting.
    """

    def __init__(
        self,
        replica: Replica,
        scheduler: Scheduler,
        stage_times: StageTimes,
        log: IterationLog,
        on_end: OnEnd,
        *,
        time_limit_s: float = inf,
        stages: Sequence[StageUse],
        overlap_sends: bool = False,
    ) -> None:
        """Start without iterations.

        Args:
            replica: The replica, without requests.
            scheduler: The policy.
            stage_times: Seconds of a batch in each pipeline stage.
            log: Empty log.
            on_end: Called with requests that have ended, whether they emitted their last token (False: they were
                refused), and when. Returns whether that may have made another event due.
            time_limit_s: Latest start of an iteration, seconds.
            stages: Time use of each pipeline stage.
            overlap_sends: Whether a stage computes its next batch while it sends.
        """
        self.replica = replica
        self.scheduler = scheduler
        self.stage_times = stage_times
        self.log = log
        self.time_limit_s = time_limit_s
        self.stages = stages
        self.overlap_sends = overlap_sends
        self.cut_off = False
        self._on_end = on_end
        self._told = False

    def enqueue(self, request: int, now_s: float) -> None:
        """Queue a request that arrives now, or refuse it."""
        if not self.replica.enqueue(request):
            self._on_end([request], False, now_s)

    def schedule(self, now_s: float, until_tokens: bool = False) -> Batch | None:
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
                self._told |= self._on_end(step.ignored, False, now_s)
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

    def begin(self, batch: Batch, now_s: float, start_s: float) -> None:
        """Log a batch just put in flight.

        Args:
            batch: The batch.
            now_s: When it was scheduled.
            start_s: When it starts in the first stage.
        """
        log, decodes = self.log, batch.decodes
        log.begin_run(
            now_s,
            start_s,
            len(batch.chunks),
            batch.num_prefill_tokens,
            batch.num_decodes,
            batch.prefill_context_tokens,
            batch.decode_context_tokens,
            NO_DECODE_SET if decodes is None else decodes.index,
        )
        if log.logs_members:
            log.log_members(batch_members(self.replica))

    def send(self, batch: Batch, stages: Stages, now_s: float, start_s: float) -> tuple[Sequence[float], float, float]:
        """Send a batch just put in flight through the stages.

        Args:
            batch: The batch.
            stages: The stages.
            now_s: When it was scheduled.
            start_s: When it starts in the first stage.

        Returns:
            Its stage times, when the first stage is free again, and when the last stage completes the batch.
        """
        self.begin(batch, now_s, start_s)
        times = self.stage_times.of_batch(batch)
        first_end_s, end_s = stages.pass_through(times, now_s, start_s)
        self.log.add(end_s, self.replica.kv.free_blocks)
        return times, first_end_s, end_s

    @property
    def _is_livelocked(self) -> bool:
        """Whether the same requests would be started and preempted forever."""
        return self.replica.num_futile_preemptions > _MAX_FUTILE_PREEMPTIONS and self.time_limit_s == inf

    def finish(self, now_s: float) -> None:
        """End the oldest batch in flight."""
        finished = self.replica.finish()
        if finished:
            self._told |= self._on_end(finished, True, now_s)

    def pop_told(self) -> bool:
        """Return whether an end may have made an event due.

        It forgets what was asked.
        """
        told, self._told = self._told, False
        return told


class Engine:
    """The event loop that serves the requests of one replica.

    It advances when asked, if the ends of its requests make nothing else due. Otherwise the clock drives it.

    Attributes:
        next_s: When it acts next, simulated seconds; infinity: not before a request arrives.
    """

    def __init__(self, clock: Clock, run: ReplicaRun, is_driven: bool) -> None:
        """Start idle.

        Args:
            clock: Simulated time.
            run: The replica in the simulation.
            is_driven: Whether the clock drives it.
        """
        self.next_s = inf
        self._run = run
        self._clock = clock
        self._is_driven = is_driven
        self._is_acting = False
        self._wake: Event | None = None
        self._wake_s = inf

    def advance(self, until_s: float) -> None:
        """Act on what is due before `until_s`.

        If the clock drives the engine, do nothing.
        """
        while not self._is_driven and self.next_s < until_s:
            self._act()

    def arrive(self, request: int) -> None:
        """Accept a request that arrives now.

        All arrivals of an instant are seen by the same decision.
        """
        now_s = self._clock.now
        self.advance(now_s)
        self._run.enqueue(request, now_s)
        self._note_arrival(now_s)
        if self._is_driven and not self._is_acting:
            self._set_wake()

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop all requests and idle until the next arrival.

        Returns:
            Running requests and waiting requests.
        """
        self._drop_batches(self._clock.now)
        self.next_s = self._wake_s = inf
        self._wake = None
        return self._run.replica.fail()

    def _act(self) -> None:
        """Do what is due at `next_s`."""
        raise NotImplementedError

    def _priority(self) -> int:
        """Return the priority of the next action in its instant."""
        raise NotImplementedError

    def _note_arrival(self, now_s: float) -> None:
        """Note that a request has arrived now.

        If idle, act after all arrivals of this instant.
        """
        raise NotImplementedError

    def _drop_batches(self, now_s: float) -> None:
        """Cut the batches in flight off."""
        raise NotImplementedError

    def _set_wake(self) -> None:
        """Have the clock call when the next action is due."""
        if self.next_s != self._wake_s:
            self._wake_s = self.next_s
            self._wake = (
                None if self.next_s == inf else self._clock.call_at(self.next_s, self._on_wake, self._priority())
            )

    def _on_wake(self, event: Event) -> None:
        if event is not self._wake:
            return  # something else has become due earlier, or the replica has failed
        self._is_acting = True
        self._act()
        due_s = self._clock.next_due_s()
        while self.next_s < due_s:
            self._act()
            if self._run.pop_told():
                due_s = self._clock.next_due_s()
        self._is_acting, self._wake_s = False, inf
        self._set_wake()
