"""A replica that checks itself against an expected state."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from simulator.invariants.errors import InvariantError
from simulator.invariants.expected_state import ExpectedState, Ints
from simulator.invariants.references import num_extra_references
from simulator.replica import Batch, Replica

_NO_REQUESTS = np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class _Flight:
    """A batch in flight.

    Attributes:
        decodes: int64[n], requests that decode.
        chunks: Prefill tokens by request.
        complete: Requests whose prefill it completes.
        awaiting: Requests that were preempted after the batch started.
        num_repeats: Repeats of the batch so far.
        new_blocks: KV blocks that each of its first `block_size` repeats takes.
    """

    decodes: Ints = field(default_factory=lambda: _NO_REQUESTS)
    chunks: dict[int, int] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    awaiting: set[int] = field(default_factory=set)
    num_repeats: int = 0
    new_blocks: list[int] = field(default_factory=list)

    def __contains__(self, request: int) -> bool:
        return request in self.chunks or request in self.decodes

    def drop(self, request: int) -> None:
        """Drop the results of a request."""
        self.chunks.pop(request, None)
        self.complete.discard(request)
        self.decodes = self.decodes[self.decodes != request]


class CheckedReplica(Replica):
    """A replica that checks itself against an expected state.

    It does so at each verb, batch and iteration. The expected state has one entry per request and is summed over the
    members of each batch; the replica keeps totals.

    Invariants:
        - A verb names requests in the state that it assumes. A chunk starts where the previous one ended and stays
          within the prefill. No request is scheduled further ahead than the engine allows.
        - The totals of a batch are those of its members. A batch is no larger, and no more requests run, than the
          policy's limits allow.
        - Referenced and free KV blocks add up to all blocks, where a shared block counts once. Each request has the
          blocks of its tokens.
        - A request references cached blocks by its own block hashes, and their `ref_count` is right.
        - A request that has arrived waits, runs or has ended. It ends with exactly its output tokens, including those
          that arrive after a preemption if the engine keeps them.

    Attributes:
        emissions: (first iteration, number of iterations, int64[n] requests that emit a token in each of them).
    """

    def __init__(self, *arguments: Any, expected: ExpectedState, **options: Any) -> None:
        """Start empty.

        Args:
            *arguments: Arguments of `Replica`.
            expected: Expected state of all requests, shared by the replicas.
            **options: Options of `Replica`.
        """
        super().__init__(*arguments, **options)
        self.emissions: list[tuple[int, int, Ints]] = []
        self._expected = expected
        self._expected_flights: deque[_Flight] = deque()
        self._expected_waiting: set[int] = set()
        self._expected_running: set[int] = set()
        self._expected_step = _Flight()
        self._step_context_tokens = 0  # of the decodes of the step

    # -- verbs ----------------------------------------------------------------------------------

    def allocate_all(self, chunks: Mapping[int, int] = MappingProxyType({})) -> None:
        """Schedule all decodes that can be, and some prefill chunks."""
        members = np.array([*self.decoding], dtype=np.int64)
        super().allocate_all(chunks)
        self._expect_decodes(members)
        for request, num_tokens in chunks.items():
            self._expect_chunk(request, num_tokens)

    def allocate(self, request: int, num_tokens: int = 1) -> bool:
        """Schedule the next tokens of a running request."""
        is_prefill = request in self.prefilling
        if not super().allocate(request, num_tokens):
            return False
        if is_prefill:
            self._expect_chunk(request, num_tokens)
        else:
            self._expect_decodes(np.array([request]))
        return True

    def admit(
        self, request: int, num_tokens: int, *, cached_tokens: int = 0, reserved_tokens: int | None = None
    ) -> None:
        """Admit a waiting request, and schedule its first prefill chunk."""
        super().admit(request, num_tokens, cached_tokens=cached_tokens, reserved_tokens=reserved_tokens)
        if request not in self._expected_waiting:
            raise InvariantError("request", request, "is admitted but does not wait")
        if any(request in flight.awaiting for flight in self._expected_flights):
            raise InvariantError("request", request, "is admitted while it awaits results of a batch in flight")
        if self.kv.prefix is not None and cached_tokens % self.block_size:
            raise InvariantError("request", request, "is admitted with", cached_tokens, "cached tokens, no full blocks")
        self._expected_waiting.remove(request)
        self._expected_running.add(request)
        longest = self.max_model_len if self.limits.reserves_whole_sequence else reserved_tokens or 0
        self._expected.context_tokens[request] = cached_tokens
        self._expected.num_blocks[request] = -(-longest // self.block_size)
        self._expect_chunk(request, num_tokens)

    def preempt(self, request: int) -> None:
        """Preempt a running request."""
        super().preempt(request)
        if request not in self._expected_running:
            raise InvariantError("request", request, "is preempted but does not run")
        state, step = self._expected, self._expected_step
        if request in step.decodes:
            self._step_context_tokens -= int(state.context_tokens[request]) - 1
        step.drop(request)
        for flight in [flight for flight in self._expected_flights if request in flight]:
            if self.limits.keeps_preempted_results:
                flight.awaiting.add(request)
            else:
                flight.drop(request)
        self._expected_running.remove(request)
        self._expected_waiting.add(request)
        state.context_tokens[request] = state.num_blocks[request] = 0
        self._require_known([request])

    def ignore(self, request: int) -> None:
        """Refuse a waiting request that is too long."""
        super().ignore(request)
        self._expected_waiting.remove(request)

    def _expect_decodes(self, members: Ints) -> None:
        """Expect the next token of some decodes.

        The replica says which they are, the expected state whether they may decode.
        """
        state = self._expected
        context_tokens, known_tokens = state.context_tokens[members], state.known_tokens[members]
        # The known tokens of a decode but the last are computed, and so are its tokens in flight.
        num_ahead = context_tokens + 1 - known_tokens
        is_final = context_tokens >= state.final_tokens[members] - 1
        if ((num_ahead < 0) | (num_ahead > self.limits.lookahead) | is_final).any():
            raise InvariantError(
                "requests", members, "decode with", context_tokens, "context tokens and", known_tokens, "known tokens"
            )
        self._step_context_tokens += int(context_tokens.sum())
        state.context_tokens[members] += 1
        if not self.limits.reserves_whole_sequence:
            state.num_blocks[members] += context_tokens % self.block_size == 0
        self._expected_step.decodes = np.concatenate([self._expected_step.decodes, members])

    def _expect_chunk(self, request: int, num_tokens: int) -> None:
        """Expect the next tokens of a prefill and their KV blocks."""
        state, chunks = self._expected, self._expected_step.chunks
        num_left = int(state.known_tokens[request] - state.context_tokens[request])
        if request not in self._expected_running or request in chunks or not 0 < num_tokens <= num_left:
            raise InvariantError("request", request, "has a chunk of", num_tokens, "tokens and", num_left, "to compute")
        chunks[request] = num_tokens
        state.context_tokens[request] += num_tokens
        num_needed = -(-int(state.context_tokens[request]) // self.block_size)
        state.num_blocks[request] = max(int(state.num_blocks[request]), num_needed)
        if num_tokens == num_left:
            self._expected_step.complete.add(request)

    # -- what the engine does -------------------------------------------------------------------

    def enqueue(self, request: int) -> bool:
        """Queue an arriving request, or refuse it."""
        if request in self._expected_waiting or request in self._expected_running:
            raise InvariantError("request", request, "arrives but already waits or runs")
        is_queued = super().enqueue(request)
        if is_queued:
            state = self._expected
            self._expected_waiting.add(request)
            state.known_tokens[request] = self.requests.known_tokens[request]
            if self.limits.checks_length_on_arrival:
                state.final_tokens[request] = min(state.final_tokens[request], self.max_model_len)
        return is_queued

    def begin_step(self) -> Batch:
        """Begin a call of the policy."""
        self._expected_step, self._step_context_tokens = _Flight(), 0
        return super().begin_step()

    def start(self) -> Batch | None:
        """End a call of the policy; put its batch in flight."""
        step = self._expected_step
        started = super().start()
        if (started is not None) != bool(len(step.decodes) or step.chunks):
            raise InvariantError("a batch without tokens is in flight, or a batch with tokens is not")
        if started is not None:
            self._expect_batch(started, step)
            self._expected_flights.append(step)
        self.check_totals()
        return started

    def _expect_batch(self, batch: Batch, step: _Flight) -> None:
        """Check the totals of a batch."""
        state, requests = self._expected, [*step.chunks]
        num_tokens = sum(step.chunks.values())
        totals = (
            len(step.decodes),
            self._step_context_tokens,
            num_tokens,
            int(state.context_tokens[requests].sum()) - num_tokens,
        )
        declared = (
            batch.num_decodes,
            batch.decode_context_tokens,
            batch.num_prefill_tokens,
            batch.prefill_context_tokens,
        )
        if declared != totals or {chunk.request: chunk.num_tokens for chunk in batch.chunks} != step.chunks:
            raise InvariantError("the decodes and chunks of a batch add up to", declared, "instead of", totals)
        limit = self.limits.max_batch_tokens
        if limit is not None and batch.num_tokens > max(limit, batch.num_decodes):
            raise InvariantError("a batch has", batch.num_tokens, "tokens, more than", limit)

    def finish(self) -> list[int]:
        """End the oldest batch in flight."""
        if not self._expected_flights:
            raise InvariantError("a batch ends but none is in flight")
        flight = self._expected_flights.popleft()
        expected = self._expect_finish(flight, self.num_finished - flight.num_repeats)
        finished = super().finish()
        if sorted(finished) != sorted(expected):
            raise InvariantError("requests", finished, "finish instead of", expected)
        self.check_totals()
        return finished

    def repeat(self, batch: Batch) -> bool:
        """End the batch in flight and start the same decision again."""
        (flight,) = self._expected_flights
        if not flight.num_repeats:
            flight.new_blocks = self._new_blocks_of_repeats(flight)
        expected = (
            self.free_blocks - flight.new_blocks[flight.num_repeats % self.block_size],
            batch.decode_context_tokens + len(flight.decodes),
            batch.prefill_context_tokens + batch.num_prefill_tokens,
        )
        if not super().repeat(batch):
            return False
        flight.num_repeats += 1
        found = self.free_blocks, batch.decode_context_tokens, batch.prefill_context_tokens
        if found != expected or self.free_blocks < 0:
            raise InvariantError("free KV blocks and context of a repeated batch are", found, "instead of", expected)
        return True

    def _new_blocks_of_repeats(self, flight: _Flight) -> list[int]:
        """Return the KV blocks that the next `block_size` repeats take."""
        if not len(flight.decodes) or self.limits.reserves_whole_sequence:
            return [0] * self.block_size
        distances = -self._expected.context_tokens[flight.decodes] % self.block_size
        counts: list[int] = np.bincount(distances, minlength=self.block_size).tolist()
        return counts

    def _expect_finish(self, flight: _Flight, first_iteration: int) -> list[int]:
        """Apply what a batch and its repeats computed.

        Args:
            flight: The batch, no longer in flight.
            first_iteration: Number of its first iteration.

        Returns:
            Requests that finish with the batch.
        """
        state, num_repeats, decodes = self._expected, flight.num_repeats, flight.decodes
        if num_repeats:
            self.emissions.append((first_iteration, num_repeats, decodes))
            state.known_tokens[decodes] += num_repeats
            state.context_tokens[decodes] += num_repeats
            for request, num_tokens in flight.chunks.items():
                state.context_tokens[request] += num_repeats * num_tokens
                if state.context_tokens[request] == state.known_tokens[request]:
                    flight.complete.add(request)
            self._set_blocks(decodes)
        complete = np.array(sorted(flight.complete), dtype=np.int64)
        self._set_blocks(np.array(sorted(flight.complete - flight.awaiting), dtype=np.int64))
        members = np.concatenate([decodes, complete])
        self.emissions.append((first_iteration + num_repeats, 1, members))
        state.known_tokens[members] += 1
        num_left = state.final_tokens[members] - state.known_tokens[members]
        if (num_left < 0).any():
            raise InvariantError("request", members[num_left.argmin()], "emits more than its output tokens")
        finished: list[int] = members[num_left == 0].tolist()
        self._expected_running.difference_update(finished)
        self._expected_waiting.difference_update(finished)
        return finished

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose everything."""
        for flight in self._expected_flights:
            if flight.num_repeats:  # the failure interrupts the last iteration; the ones before it count
                flight.num_repeats -= 1
                if self._expect_finish(flight, self.num_finished - flight.num_repeats - 1):
                    raise InvariantError("a request finished in a batch that was repeated")
        running, waiting = super().fail()
        expected_running, expected_waiting = self._expected_running, self._expected_waiting
        if {*running} != expected_running or {*waiting} != expected_waiting:
            raise InvariantError("a failure drops", running, waiting, "instead of", expected_running, expected_waiting)
        self._require_known([*running, *waiting])
        state = self._expected
        state.context_tokens[running] = state.num_blocks[running] = 0
        for part in (self._expected_flights, expected_waiting, expected_running):
            part.clear()
        self.check_totals()
        return running, waiting

    # -- checks ---------------------------------------------------------------------------------

    def check_totals(self) -> None:
        """Compare the totals of the replica with the expected state.

        Raises:
            InvariantError: They differ.
        """
        if self.running.keys() != self._expected_running or {*self.waiting} != self._expected_waiting:
            raise InvariantError(
                f"{len(self.running)} requests run and {len(self.waiting)} wait instead of "
                f"{len(self._expected_running)} and {len(self._expected_waiting)}"
            )
        limit, free_blocks = self.limits.max_num_seqs, self.free_blocks
        if limit is not None and len(self.running) > limit:
            raise InvariantError(len(self.running), "requests run, more than", limit)
        if len(self.in_flight.batches) != len(self._expected_flights):
            raise InvariantError(len(self.in_flight.batches), "batches are in flight, not", len(self._expected_flights))
        num_referenced = int(self._expected.num_blocks[[*self._expected_running]].sum())
        if self.kv.prefix is not None:
            num_referenced -= num_extra_references(self.kv.prefix, self._expected_running)
            if self.kv.prefix.num_evictable > free_blocks:
                raise InvariantError(self.kv.prefix.num_evictable, "KV blocks are evictable and", free_blocks, "free")
        if free_blocks < 0 or num_referenced + free_blocks != self.num_blocks:
            raise InvariantError(
                f"{num_referenced} referenced and {free_blocks} free KV blocks are not {self.num_blocks} in all"
            )

    def _require_known(self, requests: list[int]) -> None:
        """Check the known tokens of requests that lost their KV blocks."""
        for request in requests:
            known, expected = self.requests.known_tokens[request], int(self._expected.known_tokens[request])
            if known != expected:
                raise InvariantError("request", request, "has", known, "known tokens instead of", expected)

    def _set_blocks(self, requests: Ints) -> None:
        """Expect the KV blocks of decodes: those of their tokens."""
        if not self.limits.reserves_whole_sequence:
            self._expected.num_blocks[requests] = -(-self._expected.context_tokens[requests] // self.block_size)
