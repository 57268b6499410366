"""An overlapping replica compared with an expected state in every iteration."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.invariants.errors import InvariantError
from simulator.invariants.expected_state import ExpectedState, Ints
from simulator.kv_cache import BlockHashCache
from simulator.replica import Batch, CachingReplica, PrefillChunk


@dataclass(slots=True)
class _Flight:
    """A batch in flight.

    Attributes:
        decodes: int64[n], requests that decode.
        chunks: Whether the chunk of a request completes its prefill, by request.
        awaiting_results: Requests that were preempted after the batch started.
        num_repeats: Repeats of the batch so far.
    """

    decodes: Ints
    chunks: dict[int, bool]
    awaiting_results: set[int] = field(default_factory=set)
    num_repeats: int = 0

    @property
    def emitting(self) -> Ints:
        """Requests that the batch emits a token for."""
        complete = [request for request, completes in self.chunks.items() if completes]
        return np.concatenate([self.decodes, np.array(complete, dtype=np.int64)])


class CheckedOverlappingReplica(CachingReplica):
    """An overlapping replica that checks each decision against an expected state.

    Of the expected state, `known_tokens` are all known tokens of a request, `context_tokens` include those of batches
    in flight, and `num_blocks` include those of decodes.

    Invariants:
        - A decision names existing requests, each once, and continues where they are. No request is scheduled further
          ahead than the replica allows, or admitted while a batch in flight computes tokens for it.
        - The totals of a batch are those of its members. A batch is no larger, and no more requests run, than the
          policy allows.
        - Referenced and free KV blocks add up to all blocks, where a shared block counts once. Each request has enough
          blocks for its tokens.
        - A request references cached blocks by its own block hashes, and their `ref_count` is right.
        - A request that has arrived waits, runs or has ended. It ends with exactly its output tokens, including those
          that arrive after a preemption.

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
            *arguments: Arguments of `CachingReplica`.
            expected: Expected state of all requests, shared by the replicas.
            max_batch_tokens: Maximum tokens of a batch; None: the policy states none.
            max_num_seqs: Maximum running requests; None: the policy states none.
            **options: Options of `CachingReplica`.
        """
        super().__init__(*arguments, **options)
        self.emissions: list[tuple[int, int, Ints]] = []
        self._expected = expected
        self._max_batch_tokens = max_batch_tokens
        self._max_num_seqs = max_num_seqs
        self._expected_flights: deque[_Flight] = deque()
        self._expected_waiting: set[int] = set()
        self._expected_running: set[int] = set()
        # Of the batch that the steps of a decision make up.
        self._expected_chunks: dict[int, bool] = {}
        self._expected_decodes = np.zeros(0, dtype=np.int64)

    def enqueue(self, request: int) -> bool:
        """Put an arriving request in the queue, or refuse it."""
        if request in self._expected_waiting or request in self._expected_running:
            raise InvariantError("request", request, "arrives but already waits or runs")
        is_queued = super().enqueue(request)
        if is_queued:
            state = self._expected
            self._expected_waiting.add(request)
            state.known_tokens[request] = self.requests.known_tokens[request]
            state.final_context_tokens[request] = min(state.final_context_tokens[request], self.max_model_len - 1)
        return is_queued

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a step of a decision."""
        for request in batch.preempted:
            self._expect_preemption(request)
        for chunk in batch.chunks:
            self._expect_chunk(chunk)
        started = super().start(batch)
        if batch.num_decodes:
            self._expect_decodes(batch, started)
        if not batch.is_open:
            self._expect_launch(started)
        self.check_totals()
        if self.prefix is not None and self.prefix.num_evictable > self.free_blocks:
            raise InvariantError(
                self.prefix.num_evictable, "KV blocks are evictable but only", self.free_blocks, "are free"
            )
        return started

    def _expect_preemption(self, request: int) -> None:
        if request not in self._expected_running:
            raise InvariantError("request", request, "is preempted but does not run")
        for flight in self._expected_flights:
            if request in flight.decodes or request in flight.chunks:
                flight.awaiting_results.add(request)
        self._expected_running.remove(request)
        self._expected_waiting.add(request)
        self._expected.context_tokens[request] = self._expected.num_blocks[request] = 0

    def _expect_chunk(self, chunk: PrefillChunk) -> None:
        request, state = chunk.request, self._expected
        if request in self._expected_waiting:
            if any(request in flight.awaiting_results for flight in self._expected_flights):
                raise InvariantError("request", request, "is admitted while it awaits results of a batch in flight")
            if chunk.context_tokens % self.block_size or (chunk.context_tokens and self.prefix is None):
                raise InvariantError(
                    f"request {request} is admitted with {chunk.context_tokens} cached tokens that are not whole "
                    "blocks of a prefix cache"
                )
            self._expected_waiting.remove(request)
            self._expected_running.add(request)
            state.context_tokens[request] = chunk.context_tokens
            state.num_blocks[request] = chunk.context_tokens // self.block_size
        elif request not in self._expected_running or request in self._expected_chunks:
            raise InvariantError("request", request, "has a chunk but neither waits nor has a prefill to continue")
        context_tokens = int(state.context_tokens[request])
        num_left = int(state.known_tokens[request] - state.context_tokens[request])
        if chunk.context_tokens != context_tokens or not 0 < chunk.num_tokens <= num_left:
            raise InvariantError(
                f"request {request} has a chunk of {chunk.num_tokens} tokens after {chunk.context_tokens}; "
                f"{context_tokens} are computed and {num_left} are left"
            )
        state.context_tokens[request] += chunk.num_tokens
        state.num_blocks[request] += chunk.num_blocks
        num_tokens, num_blocks = int(state.context_tokens[request]), state.num_blocks[request]
        if num_blocks != -(-num_tokens // self.block_size):
            raise InvariantError("request", request, "has", num_blocks, "KV blocks for", num_tokens, "tokens")
        self._expected_chunks[request] = chunk.num_tokens == num_left

    def _expect_decodes(self, batch: Batch, started: Batch | None) -> None:
        """Apply the decodes of a step.

        The replica says which they are, the expected state whether they may decode.
        """
        state = self._expected
        decodes = self._step_decodes
        if started is None:
            assert decodes is not None
            members = np.array([*decodes], dtype=np.int64)
        elif self.lookahead:
            members = np.array(self._flights[-1].members, dtype=np.int64)
        else:
            decodes_in_flight = self.in_flight[-1][1]
            assert decodes_in_flight is not None
            members = np.array([*decodes_in_flight], dtype=np.int64)
        context_tokens, known_tokens = state.context_tokens[members], state.known_tokens[members]
        total = int(context_tokens.sum())
        if len(members) != batch.num_decodes or total != batch.decode_context_tokens:
            raise InvariantError(
                f"the batch declares {batch.num_decodes} decodes with {batch.decode_context_tokens} context tokens and "
                f"has {len(members)} with {total}"
            )
        # The known tokens of a decode but the last are computed, and so are its tokens in flight.
        num_ahead = context_tokens + 1 - known_tokens
        is_final = context_tokens >= state.final_context_tokens[members]
        if ((num_ahead < 0) | (num_ahead > (1 if self.lookahead else 0)) | is_final).any():
            raise InvariantError(
                "requests", members, "decode with", context_tokens, "context tokens and", known_tokens, "known tokens"
            )
        state.num_blocks[members] += context_tokens % self.block_size == 0
        state.context_tokens[members] += 1
        self._expected_decodes = members

    def _expect_launch(self, started: Batch | None) -> None:
        members, chunks = self._expected_decodes, self._expected_chunks
        self._expected_decodes, self._expected_chunks = members[:0], {}
        if (started is not None) != bool(len(members) or chunks):
            raise InvariantError("a batch without tokens is in flight, or a batch with tokens is not")
        if started is None:
            return
        if self._max_batch_tokens is not None and started.num_tokens > self._max_batch_tokens:
            raise InvariantError("a batch has", started.num_tokens, "tokens, more than", self._max_batch_tokens)
        self._expected_flights.append(_Flight(members, chunks))

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

    def repeat(self, batch: Batch) -> Iterator[int]:
        """End the batch in flight and start the same decision again."""
        (flight,) = self._expected_flights
        distances = -self._expected.context_tokens[flight.decodes] % self.block_size
        num_new_blocks = np.bincount(distances, minlength=self.block_size).tolist()
        expected_free, decode_context = self.free_blocks, batch.decode_context_tokens
        for num_free in super().repeat(batch):
            expected_free -= num_new_blocks[flight.num_repeats % self.block_size]
            flight.num_repeats += 1
            decode_context += len(flight.decodes)
            if num_free != expected_free or num_free < 0:
                raise InvariantError(num_free, "KV blocks are free instead of", expected_free)
            if batch.decode_context_tokens != decode_context:
                raise InvariantError("the context of a repeated batch does not grow by the tokens computed")
            yield num_free

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
        state = self._expected
        for request in (*running, *waiting):
            num_known = self.requests.known_tokens[request]
            if num_known != state.known_tokens[request]:
                raise InvariantError(
                    f"request {request} has {num_known} known tokens after a failure instead of "
                    f"{state.known_tokens[request]}"
                )
        state.context_tokens[running] = state.num_blocks[running] = 0
        for part in (self._expected_flights, expected_waiting, expected_running, self._expected_chunks):
            part.clear()
        self.check_totals()
        return running, waiting

    def _expect_finish(self, flight: _Flight, first_iteration: int) -> list[int]:
        """Apply the tokens that a batch and its repeats emitted.

        Args:
            flight: The batch, no longer in flight.
            first_iteration: Number of its first iteration.

        Returns:
            Requests that finish with the batch.
        """
        state, num_repeats = self._expected, flight.num_repeats
        if num_repeats:
            self.emissions.append((first_iteration, num_repeats, flight.decodes))
            state.known_tokens[flight.decodes] += num_repeats
            state.context_tokens[flight.decodes] += num_repeats
            state.num_blocks[flight.decodes] = -(-state.context_tokens[flight.decodes] // self.block_size)
        members = flight.emitting
        self.emissions.append((first_iteration + num_repeats, 1, members))
        state.known_tokens[members] += 1
        num_left = state.final_context_tokens[members] + 1 - state.known_tokens[members]
        if (num_left < 0).any():
            raise InvariantError("request", members[num_left.argmin()], "emits more than its output tokens")
        finished: list[int] = members[num_left == 0].tolist()
        self._expected_running.difference_update(finished)
        self._expected_waiting.difference_update(finished)
        state.num_blocks[finished] = 0
        return finished

    def check_totals(self) -> None:
        """Compare the totals of the replica with the expected state.

        Raises:
            InvariantError: They differ.
        """
        if {*self.running} != self._expected_running or {*self.waiting} != self._expected_waiting:
            raise InvariantError(
                f"{len(self.running)} requests run and {len(self.waiting)} wait instead of "
                f"{len(self._expected_running)} and {len(self._expected_waiting)}"
            )
        if self._max_num_seqs is not None and len(self.running) > self._max_num_seqs:
            raise InvariantError(len(self.running), "requests run, more than", self._max_num_seqs)
        num_referenced = int(self._expected.num_blocks[[*self._expected_running]].sum())
        if self.prefix is not None:
            num_referenced -= _num_extra_references(self.prefix, self._expected_running)
        if self.free_blocks < 0 or num_referenced + self.free_blocks != self.num_blocks:
            raise InvariantError(
                f"{num_referenced} referenced and {self.free_blocks} free KV blocks are not {self.num_blocks} in all"
            )


def _num_extra_references(prefix: BlockHashCache, running: set[int]) -> int:
    """Check the `ref_count` of cached KV blocks.

    Returns:
        References to the blocks, beyond the first of each block.
    """
    num_references: Counter[tuple[int, int, int]] = Counter()
    sizes: dict[tuple[int, int, int], int] = {}
    for request in running:
        for copy, first, end, ref_count in prefix.referenced_spans(request):
            num_references[copy, first, ref_count] += 1
            sizes[copy, first, ref_count] = end - first
    for (_, first, ref_count), count in num_references.items():
        if count != ref_count:
            raise InvariantError(
                f"{count} requests reference the KV blocks from hash {first}; ref_count is {ref_count}"
            )
    return sum((count - 1) * sizes[span] for span, count in num_references.items())
