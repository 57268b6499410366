"""Front end of a replica: between clients and engine."""

from functools import partial

from simpy.events import Event

from simulator.engine import ARRIVAL, Clock, Engine, ReplicaRun
from simulator.model import FrontEndTime


class FrontEnd:
    """HTTP server, tokenizer and detokenizer of one replica.

    Its event loop takes in requests one at a time, after the tokens of the last iteration were sent.
    """

    def __init__(self, clock: Clock, time: FrontEndTime, run: ReplicaRun, engine: Engine) -> None:
        """Start idle.

        Args:
            clock: Simulated time.
            time: Times of the front end.
            run: The replica.
            engine: Engine of the replica.
        """
        self._clock = clock
        self._time = time
        self._run = run
        self._engine = engine
        self._is_instant = time == FrontEndTime()
        self._free_s = 0.0
        self._inside: dict[int, None] = {}
        self._num_failures = 0

    def arrive(self, request: int) -> None:
        """Take in a request; the engine gets it when it is ready."""
        if self._is_instant:
            self._engine.arrive(request)
            return
        self.catch_up()
        now_s = self._clock.now
        ready_s = self._ready_s(now_s, self._run.replica.requests.prompt_tokens[request])
        if ready_s == now_s:
            self._engine.arrive(request)
            return
        self._inside[request] = None
        self._clock.call_at(ready_s, partial(self._hand_over, request, self._num_failures), ARRIVAL)

    def catch_up(self) -> None:
        """Have the engine act on all that was due before now."""
        self._engine.advance(self._clock.now)

    def advance(self, until_s: float) -> None:
        """Have the engine act on all that is due before `until_s`."""
        self._engine.advance(until_s)

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop all requests, also those that the engine has not seen."""
        running, waiting = self._engine.fail()
        waiting += self._inside
        self._inside.clear()
        self._free_s = 0.0
        self._num_failures += 1
        return running, waiting

    def delay_s(self, num_ended: int = 0) -> float:
        """Return the delay from an iteration's end to the clients, in seconds.

        Args:
            num_ended: Requests that the iteration ended.
        """
        return self._time.step_time(len(self._run.replica.running) + num_ended)

    def _hand_over(self, request: int, num_failures: int, _: Event) -> None:
        if num_failures == self._num_failures:
            del self._inside[request]
            self._engine.arrive(request)

    def _ready_s(self, now_s: float, prompt_tokens: int) -> float:
        time = self._time
        self._free_s = max(self._free_s, now_s, self._sending_until_s(now_s)) + time.request_s
        return self._free_s + time.latency_s + time.latency_per_token_s * prompt_tokens

    def _sending_until_s(self, now_s: float) -> float:
        """Return when the last iteration's tokens are sent; 0: unknown."""
        delay_s = self.delay_s()
        ended_s = self._run.log.last_end_s(now_s) if delay_s else None
        return 0.0 if ended_s is None else ended_s + delay_s
