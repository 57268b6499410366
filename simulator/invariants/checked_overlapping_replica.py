"""An overlapping replica that keeps books of its own about every request, and compares them with its state."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.invariants.expected_state import ExpectedState, Ints, broken
from simulator.kv_cache import BlockHashCache
from simulator.replica import Batch, CachingReplica, PrefillChunk


@dataclass(slots=True)
class _Flight:
    """A batch in flight.

    Attributes:
        decodes: int64[n], requests that decode.
        chunks: Requests with a chunk, and whether it completes their prefill.
        awaiting_results: Requests that were preempted meanwhile.
        repetitions: How often it was repeated so far.
    """

    decodes: Ints
    chunks: dict[int, bool]
    awaiting_results: set[int] = field(default_factory=set)
    repetitions: int = 0

    @property
    def emitting(self) -> Ints:
        """Requests for which it makes a token."""
        complete = [request for request, completes in self.chunks.items() if completes]
        return np.concatenate([self.decodes, np.array(complete, dtype=np.int64)])


class CheckedOverlappingReplica(CachingReplica):
    """Carries out decisions as an overlapping replica does, and checks each of them against books kept in another way.

    Laws: a decision names requests that are there, once each, and goes on where they are; nobody is scheduled ahead
    of what the replica allows, and nobody is admitted while work of theirs is in flight; totals of a batch are those
    of its members; held and free KV blocks are all blocks, those that several requests hold counted once, and each
    request holds enough for its tokens; labels are those of the blocks that hold them; requests that have arrived are
    waiting, running or gone; a request ends with exactly the tokens that it was to emit, those included that come back
    after a preemption; no batch is larger than its policy says, no more requests run than its policy admits.

    Of the books, `prefill` are the known tokens of a request, and `context` are those that are computed or being
    computed.

    Attributes:
        emissions: (first iteration, how many iterations, int64[n] requests that emitted a token in each of them).
    """

    def __init__(
        self,
        *arguments: Any,
        books: ExpectedState,
        max_tokens: int | None = None,
        max_num_seqs: int | None = None,
        **options: Any,
    ) -> None:
        """Start empty.

        Args:
            *arguments: As of `CachingReplica`.
            books: Of all requests; shared by the replicas.
            max_tokens: Tokens of a batch at most; None: the policy does not say.
            max_num_seqs: Running requests at most; None: the policy does not say.
            **options: As of `CachingReplica`.
        """
        super().__init__(*arguments, **options)
        self.emissions: list[tuple[int, int, Ints]] = []
        self._books = books
        self._max_tokens = max_tokens
        self._max_num_seqs = max_num_seqs
        self._booked: deque[_Flight] = deque()
        self._queued: set[int] = set()
        self._admitted: set[int] = set()
        self._forming_chunks: dict[int, bool] = {}
        self._forming_members = np.zeros(0, dtype=np.int64)

    def enqueue(self, request: int) -> bool:
        """Put an arriving request in the queue, or refuse it."""
        if request in self._queued or request in self._admitted:
            raise broken("request", request, "arrives although it is there already")
        arrives = super().enqueue(request)
        if arrives:
            self._queued.add(request)
            self._books.prefill[request] = self.requests.known_tokens[request]
            self._books.last[request] = min(self._books.last[request], self.max_model_len - 1)
        return arrives

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a step of a decision."""
        for request in batch.preempted:
            self._book_preemption(request)
        for chunk in batch.chunks:
            self._book_chunk(chunk)
        started = super().start(batch)
        if batch.num_decodes:
            self._book_decodes(batch, started)
        if not batch.is_open:
            self._book_end_of_call(started)
        self.check_totals()
        if self.prefix is not None and self.prefix.num_evictable > self.free_blocks:
            raise broken(self.prefix.num_evictable, "KV blocks that nobody holds have labels, of", self.free_blocks)
        return started

    def _book_preemption(self, request: int) -> None:
        if request not in self._admitted:
            raise broken("request", request, "is preempted and does not run")
        for flight in self._booked:
            if request in flight.decodes or request in flight.chunks:
                flight.awaiting_results.add(request)
        self._admitted.remove(request)
        self._queued.add(request)
        self._books.context[request] = self._books.blocks[request] = 0

    def _book_chunk(self, chunk: PrefillChunk) -> None:
        request, books = chunk.request, self._books
        if request in self._queued:
            if any(request in flight.awaiting_results for flight in self._booked):
                raise broken("request", request, "is admitted while work of it is in flight")
            if chunk.context_tokens % self.block_size or (chunk.context_tokens and self.prefix is None):
                raise broken("request", request, "begins with", chunk.context_tokens, "tokens that nobody computed")
            self._queued.remove(request)
            self._admitted.add(request)
            books.context[request] = chunk.context_tokens
            books.blocks[request] = chunk.context_tokens // self.block_size
        elif request not in self._admitted or request in self._forming_chunks:
            raise broken("request", request, "has a chunk and neither waits nor has a prefill to go on with")
        context, left = int(books.context[request]), int(books.prefill[request] - books.context[request])
        if chunk.context_tokens != context or not 0 < chunk.num_tokens <= left:
            raise broken(
                f"request {request} has a chunk of {chunk.num_tokens} tokens after {chunk.context_tokens}; {context} "
                f"are computed and {left} are left"
            )
        books.context[request] += chunk.num_tokens
        books.blocks[request] += chunk.num_blocks
        if books.blocks[request] != -(-int(books.context[request]) // self.block_size):
            raise broken("request", request, "has", books.blocks[request], "KV blocks, not those of its tokens")
        self._forming_chunks[request] = chunk.num_tokens == left

    def _book_decodes(self, batch: Batch, started: Batch | None) -> None:
        """Enter the decodes of a step; the replica says which they are, the books whether they may."""
        books = self._books
        decodes = self._step_decodes
        if started is None:
            assert decodes is not None
            members = np.array([*decodes], dtype=np.int64)
        elif self.lookahead:
            members = np.array(self._flights[-1].members, dtype=np.int64)
        else:
            flying = self.in_flight[-1][1]
            assert flying is not None
            members = np.array([*flying], dtype=np.int64)
        context = books.context[members]
        if len(members) != batch.num_decodes or int(context.sum()) != batch.decode_context_tokens:
            raise broken(
                f"the batch says {batch.num_decodes} decodes of {batch.decode_context_tokens} tokens and has "
                f"{len(members)} of {context.sum()}"
            )
        # Each has its known tokens computed but for the last one, and those being made.
        ahead = context + 1 - books.prefill[members]
        if ((ahead < 0) | (ahead > (1 if self.lookahead else 0)) | (context >= books.last[members])).any():
            raise broken("requests", members, "decode after", context, "of", books.prefill[members], "known tokens")
        books.blocks[members] += context % self.block_size == 0
        books.context[members] += 1
        self._forming_members = members

    def _book_end_of_call(self, started: Batch | None) -> None:
        members, chunks = self._forming_members, self._forming_chunks
        self._forming_members, self._forming_chunks = members[:0], {}
        if (started is not None) != bool(len(members) or chunks):
            raise broken("a batch without tokens is in flight, or one with tokens is not")
        if started is None:
            return
        if self._max_tokens is not None and started.num_tokens > self._max_tokens:
            raise broken("a batch has", started.num_tokens, "tokens, of", self._max_tokens)
        self._booked.append(_Flight(members, chunks))

    def finish(self) -> list[int]:
        """End the oldest batch in flight."""
        if not self._booked:
            raise broken("a batch ends although none is in flight")
        flight = self._booked.popleft()
        expected = self._settle(flight, self.num_finished - flight.repetitions)
        finished = super().finish()
        if sorted(finished) != sorted(expected):
            raise broken("requests", finished, "end instead of", expected)
        self.check_totals()
        return finished

    def repeat(self, batch: Batch) -> Iterator[int]:
        """End the batch in flight and start the same decision again."""
        (flight,) = self._booked
        distances = -self._books.context[flight.decodes] % self.block_size
        needing = np.bincount(distances, minlength=self.block_size).tolist()
        free_blocks, context = self.free_blocks, batch.decode_context_tokens
        for held in super().repeat(batch):
            free_blocks -= needing[flight.repetitions % self.block_size]
            flight.repetitions += 1
            context += len(flight.decodes)
            if held != free_blocks or held < 0:
                raise broken(held, "KV blocks are free instead of", free_blocks)
            if batch.decode_context_tokens != context:
                raise broken("a repeated batch does not go on by a token for each one computed")
            yield held

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose everything."""
        for flight in self._booked:
            if flight.repetitions:  # what it did before the iteration that is broken off
                flight.repetitions -= 1
                if self._settle(flight, self.num_finished - flight.repetitions - 1):
                    raise broken("a request ended in a batch that went on")
        running, waiting = super().fail()
        if {*running} != self._admitted or {*waiting} != self._queued:
            raise broken("a failure throws out", running, waiting, "instead of", self._admitted, self._queued)
        for request in (*running, *waiting):
            if self.requests.known_tokens[request] != self._books.prefill[request]:
                raise broken("request", request, "is not known by its", self._books.prefill[request], "tokens")
        self._books.context[running] = self._books.blocks[running] = 0
        for part in (self._booked, self._queued, self._admitted, self._forming_chunks):
            part.clear()
        self.check_totals()
        return running, waiting

    def _settle(self, flight: _Flight, first: int) -> list[int]:
        """Enter the tokens that a batch and its repetitions made, and return the requests that end with it.

        Args:
            flight: The batch, no longer in flight.
            first: Number of its iteration.
        """
        books, repetitions = self._books, flight.repetitions
        if repetitions:
            self.emissions.append((first, repetitions, flight.decodes))
            books.prefill[flight.decodes] += repetitions
            books.context[flight.decodes] += repetitions
            books.blocks[flight.decodes] = -(-books.context[flight.decodes] // self.block_size)
        members = flight.emitting
        self.emissions.append((first + repetitions, 1, members))
        books.prefill[members] += 1
        left = books.last[members] + 1 - books.prefill[members]
        if (left < 0).any():
            raise broken("request", members[left.argmin()], "emits more tokens than it is to")
        finished: list[int] = members[left == 0].tolist()
        self._admitted.difference_update(finished)
        self._queued.difference_update(finished)
        books.blocks[finished] = 0
        return finished

    def check_totals(self) -> None:
        """Compare the books with the state.

        Raises:
            InvariantError: They differ.
        """
        if {*self.running} != self._admitted or {*self.waiting} != self._queued:
            raise broken(
                f"{len(self.running)} requests run and {len(self.waiting)} wait instead of {len(self._admitted)} and "
                f"{len(self._queued)}"
            )
        if self._max_num_seqs is not None and len(self.running) > self._max_num_seqs:
            raise broken(len(self.running), "requests run, of", self._max_num_seqs)
        held = int(self._books.blocks[[*self._admitted]].sum())
        if self.prefix is not None:
            held -= _held_twice(self.prefix, self._admitted)
        if self.free_blocks < 0 or held + self.free_blocks != self.num_blocks:
            raise broken(f"{held} KV blocks held and {self.free_blocks} free are not {self.num_blocks}")


def _held_twice(prefix: BlockHashCache, running: set[int]) -> int:
    """Check the holders of labelled KV blocks, and return how many more the requests hold than there are."""
    holders: Counter[tuple[int, int, int]] = Counter()
    sizes: dict[tuple[int, int, int], int] = {}
    for request in running:
        for copy, first, end, ref_count in prefix.referenced_spans(request):
            holders[copy, first, ref_count] += 1
            sizes[copy, first, ref_count] = end - first
    for (copy, first, ref_count), count in holders.items():
        if count != ref_count:
            raise broken(f"{count} requests hold the KV blocks labelled {first} on, not {ref_count}", copy)
    return sum((count - 1) * sizes[key] for key, count in holders.items())
