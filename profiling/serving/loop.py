"""The serving loop: executes a simulator policy's batches in real time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from profiling.serving.block_tables import BlockTables
from profiling.serving.executor import ExecutionTimes
from profiling.serving.inputs import Tokens, Work, work_of
from simulator.cluster import ReplicaSpec
from simulator.replica import Batch, Lengths, RequestTable
from traces import Trace

# Shorter waits poll: the operating system wakes a sleeping process too late.
SPIN_S = 0.002


class Execute(Protocol):
    """A function that computes an iteration; see `Executor.execute`."""

    def __call__(self, work: Work, token_ids: Sequence[Tokens]) -> tuple[NDArray[np.int64], ExecutionTimes]:
        """Return the next tokens and the times of the parts.

        One token is returned per chunk and decode.
        """
        ...


# Request, tokens, context tokens before them.
Chunk = tuple[int, int, int]


@dataclass(frozen=True)
class Iteration:
    """One iteration of the loop.

    Times are seconds since the start of the trace.

    Attributes:
        start_s: Start: the end of the previous iteration or, if the replica was idle, the next arrival.
        schedule_s: Seconds in the scheduler.
        prepare_s: Seconds to prepare the inputs.
        launch_s: Seconds of host time to launch kernels.
        device_s: Seconds from the first launch to the end of the last kernel.
        finish_s: Seconds to store new tokens and finish requests.
        end_s: End: its tokens are available.
        num_decodes: Decoding requests.
        decode_context_tokens: Their context tokens, summed.
        chunks: Prefill chunks.
        preempted: Requests that were preempted before the iteration.
    """

    start_s: float
    schedule_s: float
    prepare_s: float
    launch_s: float
    device_s: float
    finish_s: float
    end_s: float
    num_decodes: int
    decode_context_tokens: int
    chunks: Sequence[Chunk]
    preempted: Sequence[int]

    @property
    def decodes(self) -> tuple[int, int]:
        """Number of decodes and their summed context tokens."""
        return self.num_decodes, self.decode_context_tokens


@dataclass(frozen=True)
class Served:
    """Iterations and request times of a served trace.

    Attributes:
        iterations: In order.
        first_token_s: float64[num_requests], NaN: no token was emitted.
        completed_s: float64[num_requests], NaN: refused.
    """

    iterations: Sequence[Iteration]
    first_token_s: NDArray[np.float64]
    completed_s: NDArray[np.float64]


class ServingLoop:
    """One replica that serves a trace in real time."""

    def __init__(
        self,
        trace: Trace,
        spec: ReplicaSpec,
        vocab_size: int,
        execute: Execute,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Draw the prompts.

        Args:
            trace: Requests with arrival times.
            spec: The replica; its stage times are not used.
            vocab_size: Number of distinct tokens to draw prompts from.
            execute: Computes an iteration.
            clock: Monotonic clock, seconds.
            sleep: Sleeps for a number of seconds.

        Raises:
            ValueError: Arrivals depend on other requests, or the engine does not support the policy or prefix caching.
        """
        if spec.prefix_caching or spec.scheduler.limits.lookahead:
            raise ValueError(
                "a prefix cache or async scheduling cannot be recorded: set kv_cache.prefix_caching=false and "
                "scheduler.async_scheduling=false"
            )
        if trace.arrival_s is None or np.isnan(trace.arrival_s).any():
            raise ValueError("a trace whose requests wait for others cannot be recorded: every arrival must be known")
        self._arrival_s = trace.arrival_s.tolist()
        total = (trace.prompt_tokens + trace.output_tokens).tolist()
        prompts = trace.prompt_tokens.tolist()
        requests = RequestTable(self._arrival_s, Lengths(prompts), Lengths(total), prompts)
        self._total = total
        self._replica = spec.build(requests)
        self._scheduler = spec.scheduler
        self._tables = BlockTables(spec.num_blocks, spec.block_size, spec.max_model_len)
        random = np.random.default_rng(0)
        self._token_ids: list[Tokens] = [random.integers(0, vocab_size, count) for count in total]
        self._execute = execute
        self._clock = clock
        self._sleep = sleep
        self._num_arrived = 0
        self._first_token_s = np.full(len(total), np.nan)
        self._completed_s = np.full(len(total), np.nan)

    def serve(self) -> Served:
        """Serve all requests and return when the last one ends."""
        iterations: list[Iteration] = []
        origin_s = self._clock()
        now_s = 0.0
        while True:
            preempted: list[int] = []
            self._take_arrivals(now_s)
            batch = self._next_batch(preempted)
            if batch is not None:
                iterations.append(self._iterate(batch, preempted, origin_s, now_s))
                now_s = iterations[-1].end_s
            elif self._num_arrived < len(self._arrival_s):
                now_s = self._wait(origin_s, self._arrival_s[self._num_arrived])
            else:
                return Served(iterations, self._first_token_s, self._completed_s)

    def _take_arrivals(self, now_s: float) -> None:
        while self._num_arrived < len(self._arrival_s) and self._arrival_s[self._num_arrived] <= now_s:
            self._replica.enqueue(self._num_arrived)
            self._num_arrived += 1

    def _next_batch(self, preempted: list[int]) -> Batch | None:
        """Run the policy until it starts a batch with tokens.

        None if it has nothing to do. Preempted requests are added to `preempted`.
        """
        while True:
            self._replica.begin_step()
            batch = self._scheduler.schedule(self._replica)
            started = self._replica.start()
            if batch is None:
                return None
            self._tables.release(batch.preempted)
            preempted += batch.preempted
            if started is not None:
                return started

    def _iterate(self, batch: Batch, preempted: Sequence[int], origin_s: float, start_s: float) -> Iteration:
        scheduled_s = self._clock() - origin_s
        work = work_of(batch, self._replica, self._tables)
        made_s = self._clock() - origin_s
        tokens, times = self._execute(work, self._token_ids)
        computed_s = self._clock() - origin_s
        prefilled = self._store(work, tokens)
        ended = self._replica.finish()
        self._tables.release(ended)
        end_s = self._clock() - origin_s
        for request in prefilled:
            if np.isnan(self._first_token_s[request]):
                self._first_token_s[request] = end_s
        self._completed_s[ended] = end_s
        return Iteration(
            start_s=start_s,
            schedule_s=scheduled_s - start_s,
            prepare_s=made_s - scheduled_s + times.prepare_s,
            launch_s=times.launch_s,
            device_s=times.device_s,
            finish_s=end_s - computed_s,
            end_s=end_s,
            num_decodes=batch.num_decodes,
            decode_context_tokens=batch.decode_context_tokens,
            chunks=[(chunk.request, chunk.num_tokens, chunk.context_tokens) for chunk in batch.chunks],
            preempted=preempted,
        )

    def _store(self, work: Work, tokens: NDArray[np.int64]) -> list[int]:
        """Store the new tokens; return the requests whose prefill ended."""
        prefilled = []
        num_chunks = len(work.chunks)
        known_tokens = self._replica.requests.known_tokens
        for index, (request, span, token) in enumerate(zip(work.requests, work.spans, tokens.tolist(), strict=True)):
            if index < num_chunks:
                if span.total < known_tokens[request]:
                    continue  # not the last chunk of the prompt
                prefilled.append(request)
            if span.total < self._total[request]:
                self._token_ids[request][span.total] = token
        return prefilled

    def _wait(self, origin_s: float, until_s: float) -> float:
        """Wait until a time and return it.

        A late wake-up counts as time of the next iteration.
        """
        while (now_s := self._clock() - origin_s) < until_s:
            if until_s - now_s > SPIN_S:
                self._sleep(until_s - now_s - SPIN_S)
        return until_s
