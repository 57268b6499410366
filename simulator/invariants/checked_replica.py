"""A replica compared with an expected state in every iteration."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.invariants.errors import InvariantError
from simulator.invariants.expected_state import ExpectedState, Ints
from simulator.replica import Batch, PrefillChunk, Replica

# Faster than the array methods on the small arrays here.
_sum, _min = np.add.reduce, np.minimum.reduce
_NO_REQUESTS = np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class _Flight:
    """A batch in flight.

    Attributes:
        decodes: int64[n], requests that decode.
        chunks: Prefill tokens by request.
        num_repeats: Repeats of the batch so far.
        num_new_blocks: Decodes that need a new KV block, by repeat modulo `block_size`; empty: the batch was never
            repeated.
    """

    decodes: Ints
    chunks: dict[int, int]
    num_repeats: int = 0
    num_new_blocks: list[int] = field(default_factory=list)


class CheckedReplica(Replica):
    """A replica that checks each decision against an expected state.

    The expected state has one entry per request and is summed over the members of each batch; the replica keeps
    totals.

    Invariants:
        - A decision names existing requests, each once, in the state that the decision assumes. A chunk starts where
          the previous one ended and stays within the prompt.
        - The totals of a batch are those of its members. A batch is no larger, and no more requests run, than the
          policy allows.
        - Allocated and free KV blocks add up to all blocks, and each request has enough for its tokens.
        - A request that has arrived waits, runs or has ended. It ends with exactly its output tokens.

    Attributes:
        emissions: (first iteration, number of iterations, int64[n] requests that emit a token in each of them).
    """

    def __init__(
        self,
        *arguments: Any,
        expected: ExpectedState,
        max_batch_tokens: int | None = None,
        max_num_seqs: int | None = None,
        **options: Any,
    ) -> None:
        """Start empty.

        Args:
            *arguments: Arguments of `Replica`.
            expected: Expected state of all requests, shared by the replicas.
            max_batch_tokens: Maximum tokens of a batch, which decodes alone may exceed; None: the policy states none.
            max_num_seqs: Maximum running requests; None: the policy states none.
            **options: Options of `Replica`.
        """
        super().__init__(*arguments, **options)
        self.emissions: list[tuple[int, int, Ints]] = []
        self._expected = expected
        self._max_batch_tokens = max_batch_tokens
        self._max_num_seqs = max_num_seqs
        self._expected_flights: deque[_Flight] = deque()
        self._expected_waiting: dict[int, None] = {}
        self._expected_prefills: dict[int, None] = {}  # those that are not in flight
        self._expected_decodes = _NO_REQUESTS  # those that are not in flight
        self._num_expected_running = 0  # in flight or not
        self._num_allocated_blocks = 0

    def enqueue(self, request: int) -> bool:
        """Put an arriving request at the back of the queue."""
        if request in self._expected_waiting or request in self.running:
            raise InvariantError("request", request, "arrives but already waits or runs")
        self._expected_waiting[request] = None
        # Tokens that it got at another replica count as prompt here.
        self._expected.known_tokens[request] = self.requests.known_tokens[request]
        return super().enqueue(request)

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a decision."""
        flight = self._expect_batch(batch)
        started = super().start(batch)
        if (started is not None) != bool(len(flight.decodes) or flight.chunks):
            raise InvariantError("a batch without tokens is in flight, or a batch with tokens is not")
        if started is not None:
            self._expected_flights.append(flight)
        self.check_totals()
        return started

    def finish(self) -> list[int]:
        """End the oldest batch in flight."""
        if not self._expected_flights:
            raise InvariantError("a batch ends but none is in flight")
        flight = self._expected_flights.popleft()
        expected = self._expect_finish(flight, self.num_finished - flight.num_repeats)
        finished = super().finish()
        if (finished or expected) and sorted(finished) != sorted(expected):
            raise InvariantError("requests", finished, "finish instead of", expected)
        return finished

    def repeat(self, batch: Batch) -> Iterator[int]:
        """End the batch in flight and start the same decision again."""
        (flight,) = self._expected_flights
        flight.num_new_blocks = num_new_blocks = [0] * self.block_size
        num_decodes = len(flight.decodes)
        if self._appends_blocks and num_decodes:
            # Repeats until the next token of each decode starts a KV block.
            distances = -(self._expected.context_tokens[flight.decodes] + 1) % self.block_size
            flight.num_new_blocks = num_new_blocks = np.bincount(distances, minlength=self.block_size).tolist()
        expected_free, decode_context = self.free_blocks, batch.decode_context_tokens
        prefill_context, num_prefill_tokens, distance = batch.prefill_context_tokens, batch.num_prefill_tokens, 0
        for num_free in super().repeat(batch):
            flight.num_repeats += 1
            expected_free -= num_new_blocks[distance]
            decode_context += num_decodes
            prefill_context += num_prefill_tokens
            distance = distance + 1 if distance + 1 < self.block_size else 0
            if num_free != expected_free or num_free < 0:
                raise InvariantError(num_free, "KV blocks are free instead of", expected_free)
            if batch.decode_context_tokens != decode_context or batch.prefill_context_tokens != prefill_context:
                raise InvariantError("the context of a repeated batch does not grow by the tokens computed")
            yield num_free

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose everything."""
        state = self._expected
        for flight in self._expected_flights:
            if flight.num_repeats:  # the failure interrupts the last iteration; the ones before it count
                flight.num_repeats -= 1
                if self._expect_finish(flight, self.num_finished - flight.num_repeats - 1):
                    raise InvariantError("a request finished in a batch that was repeated")
        expected_running = {*self._expected_prefills, *self._expected_decodes.tolist()}
        for flight in self._expected_flights:
            expected_running |= {*flight.decodes.tolist(), *flight.chunks}
        decoding = [request for flight in self._expected_flights for request in flight.decodes.tolist()]
        decoding += self._expected_decodes.tolist()
        state.known_tokens[decoding] = state.context_tokens[decoding] + 1
        expected_cached = int(state.context_tokens[sorted(expected_running)].sum())
        if expected_cached != self.cached_tokens:
            raise InvariantError(self.cached_tokens, "tokens are in the KV cache instead of", expected_cached)
        running, waiting = super().fail()
        if {*running} != expected_running or {*waiting} != {*self._expected_waiting}:
            raise InvariantError(
                "a failure drops", running, waiting, "instead of", expected_running, [*self._expected_waiting]
            )
        for request in running:
            num_known = self.requests.known_tokens[request]
            if num_known != state.known_tokens[request]:
                raise InvariantError(
                    f"request {request} has {num_known} known tokens after a failure instead of "
                    f"{state.known_tokens[request]}"
                )
        state.context_tokens[running] = state.num_blocks[running] = 0
        self._expected_flights.clear()
        self._expected_waiting.clear()
        self._expected_prefills.clear()
        self._expected_decodes, self._num_expected_running, self._num_allocated_blocks = _NO_REQUESTS, 0, 0
        self.check_totals()
        return running, waiting

    def _expect_batch(self, batch: Batch) -> _Flight:
        """Apply a decision to the expected state."""
        for request in batch.preempted:
            self._expect_preemption(request)
        for request in batch.ignored:
            if self._expected_waiting.pop(request, 0) is not None:
                raise InvariantError("request", request, "is ignored but does not wait")
        flight = _Flight(self._expect_decodes(batch) if batch.num_decodes else _NO_REQUESTS, {})
        num_tokens = context_tokens = 0
        for chunk in batch.chunks:
            self._expect_chunk(flight, chunk)
            num_tokens += chunk.num_tokens
            context_tokens += chunk.context_tokens
        if num_tokens != batch.num_prefill_tokens or context_tokens != batch.prefill_context_tokens:
            raise InvariantError(
                f"the batch declares {batch.num_prefill_tokens} prefill tokens after {batch.prefill_context_tokens} "
                f"context tokens and its chunks have {num_tokens} after {context_tokens}"
            )
        num_decodes, limit = len(flight.decodes), self._max_batch_tokens
        if limit is not None and num_tokens + num_decodes > max(limit, num_decodes):
            raise InvariantError("a batch has", num_tokens + num_decodes, "tokens, more than", limit)
        return flight

    def _expect_decodes(self, batch: Batch) -> Ints:
        """Return the requests that decode in a batch; allocate their KV blocks."""
        members = self._expected_decodes
        self._expected_decodes = _NO_REQUESTS
        if batch.skipped_decodes:
            is_skipped = np.isin(members, list(batch.skipped_decodes))
            members, self._expected_decodes = members[~is_skipped], members[is_skipped]
        context_tokens = self._expected.context_tokens[members]
        total = int(_sum(context_tokens))
        if len(members) != batch.num_decodes or total != batch.decode_context_tokens:
            raise InvariantError(
                f"the batch declares {batch.num_decodes} decodes with {batch.decode_context_tokens} context tokens and "
                f"has {len(members)} with {total}"
            )
        if self._appends_blocks:  # else admission allocates all blocks, and engines let a request write beyond them
            self._num_allocated_blocks += int(np.count_nonzero(context_tokens % self.block_size == 0))
        return members

    def _expect_chunk(self, flight: _Flight, chunk: PrefillChunk) -> None:
        request, state = chunk.request, self._expected
        context_tokens = int(state.context_tokens[request])
        if request in self._expected_waiting:
            del self._expected_waiting[request]
            self._num_expected_running += 1
            # A policy may find tokens that are already cached.
            state.context_tokens[request] = context_tokens = max(0, chunk.context_tokens)
        elif request in self._expected_prefills:
            del self._expected_prefills[request]
        else:
            raise InvariantError("request", request, "has a chunk but neither waits nor has a prefill to continue")
        num_left = int(state.known_tokens[request]) - context_tokens
        if chunk.context_tokens != context_tokens or not 0 < chunk.num_tokens <= num_left:
            raise InvariantError(
                f"request {request} has a chunk of {chunk.num_tokens} tokens after {chunk.context_tokens}; "
                f"{context_tokens} are computed and {num_left} are left"
            )
        flight.chunks[request] = chunk.num_tokens
        state.num_blocks[request] += chunk.num_blocks
        self._num_allocated_blocks += chunk.num_blocks
        if state.num_blocks[request] * self.block_size < context_tokens + chunk.num_tokens:
            raise InvariantError("request", request, "has", state.num_blocks[request], "KV blocks, too few for a chunk")

    def _expect_finish(self, flight: _Flight, first_iteration: int) -> list[int]:
        """Apply what a batch and its repeats computed.

        Args:
            flight: The batch, no longer in flight.
            first_iteration: Number of its first iteration.

        Returns:
            Requests that finish with the batch.
        """
        state, num_iterations, members = self._expected, flight.num_repeats + 1, flight.decodes
        finished: list[int] = []
        if len(members):
            context_tokens = state.context_tokens[members] + num_iterations
            state.context_tokens[members] = context_tokens
            # Blocks of the repeats; `start` counted those of the first iteration.
            rounds, rest = divmod(flight.num_repeats, self.block_size)
            num_new_blocks = rounds * len(members) * self._appends_blocks + sum(flight.num_new_blocks[:rest])
            self._num_allocated_blocks += num_new_blocks
            self.emissions.append((first_iteration, num_iterations, members))
            num_left = state.final_context_tokens[members] - context_tokens
            members = self._split_finished(members, num_left, finished)
        prefilled = []
        for request, num_tokens in flight.chunks.items():
            state.context_tokens[request] += num_tokens * num_iterations
            num_to_prefill = int(state.known_tokens[request] - state.context_tokens[request])
            if num_to_prefill < 0:
                raise InvariantError("request", request, "computes more than its prefill")
            if num_to_prefill:
                self._expected_prefills[request] = None
            else:
                prefilled.append(request)
        if prefilled:
            new = np.array(prefilled)
            self._require_exact_blocks(new)
            self.emissions.append((first_iteration + num_iterations - 1, 1, new))
            new = self._split_finished(new, state.final_context_tokens[new] - state.context_tokens[new], finished)
            members = np.concatenate([members, new])
        decodes = self._expected_decodes
        self._expected_decodes = np.concatenate([decodes, members]) if len(decodes) else members
        if finished:
            self._num_expected_running -= len(finished)
            self._num_allocated_blocks -= sum(self._blocks_expected(request) for request in finished)
        return finished

    @staticmethod
    def _split_finished(members: Ints, num_left: Ints, finished: list[int]) -> Ints:
        """Return requests with tokens left to emit; append others to `finished`."""
        lowest = _min(num_left)
        if lowest > 0:
            return members
        if lowest < 0:
            raise InvariantError("request", members[num_left.argmin()], "emits more than its output tokens")
        finished += members[num_left == 0].tolist()
        return members[num_left > 0]

    def _require_exact_blocks(self, requests: Ints) -> None:
        """Check that complete prefills have exactly the blocks of their tokens.

        Decodes append the next ones.
        """
        state = self._expected
        needed = -(-state.context_tokens[requests] // self.block_size)
        if self._appends_blocks and (state.num_blocks[requests] != needed).any():
            raise InvariantError(
                "requests", requests, "have", state.num_blocks[requests], "KV blocks and their prefills need", needed
            )

    def _blocks_expected(self, request: int, num_computing: int = 0) -> int:
        """Return KV blocks of a decoding request with `num_computing` tokens in flight."""
        if not self._appends_blocks:
            return int(self._expected.num_blocks[request])
        return -(-(int(self._expected.context_tokens[request]) + num_computing) // self.block_size)

    def _expect_preemption(self, request: int) -> None:
        state = self._expected
        in_flight = [
            flight for flight in self._expected_flights if request in flight.chunks or request in flight.decodes
        ]
        num_computing = sum(request in flight.decodes for flight in in_flight)
        for flight in in_flight:
            flight.chunks.pop(request, None)
            flight.decodes = flight.decodes[flight.decodes != request]
        if num_computing or request in self._expected_decodes:
            self._num_allocated_blocks -= self._blocks_expected(request, num_computing)
            state.known_tokens[request] = state.context_tokens[request] + 1  # the latest token is not cached yet
        elif in_flight or request in self._expected_prefills:
            self._num_allocated_blocks -= int(state.num_blocks[request])
        else:
            raise InvariantError("request", request, "is preempted but does not run")
        self._expected_prefills.pop(request, None)
        self._expected_decodes = self._expected_decodes[self._expected_decodes != request]
        state.context_tokens[request] = state.num_blocks[request] = 0
        self._num_expected_running -= 1
        self._expected_waiting[request] = None

    def check_totals(self) -> None:
        """Compare the totals of the replica with the expected state.

        Raises:
            InvariantError: They differ.
        """
        if self.free_blocks < 0 or self._num_allocated_blocks + self.free_blocks != self.num_blocks:
            raise InvariantError(
                f"{self._num_allocated_blocks} allocated and {self.free_blocks} free KV blocks are not "
                f"{self.num_blocks} in all"
            )
        if len(self.running) != self._num_expected_running or len(self.waiting) != len(self._expected_waiting):
            raise InvariantError(
                f"{len(self.running)} requests run and {len(self.waiting)} wait instead of "
                f"{self._num_expected_running} and {len(self._expected_waiting)}"
            )
        if self._max_num_seqs is not None and len(self.running) > self._max_num_seqs:
            raise InvariantError(len(self.running), "requests run, more than", self._max_num_seqs)
        if len(self.in_flight) != len(self._expected_flights):
            raise InvariantError(len(self.in_flight), "batches are in flight instead of", len(self._expected_flights))
