"""A replica that keeps books of its own about every request, and compares them with its state in every iteration."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.invariants.expected_state import ExpectedState, Ints, broken
from simulator.replica import Batch, PrefillChunk, Replica

# Of the small arrays here, without the detour of their methods.
_sum, _least = np.add.reduce, np.minimum.reduce
_NOBODY = np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class _Flight:
    """A batch in flight.

    Attributes:
        decodes: Requests that decode.
        chunks: Prompt tokens by request.
        repetitions: How often it was repeated so far.
        needing: Decodes that begin a KV block with the first repetition, the second, ...; empty: nobody asked.
    """

    decodes: Ints
    chunks: dict[int, int]
    repetitions: int = 0
    needing: list[int] = field(default_factory=list)


class CheckedReplica(Replica):
    """Carries out decisions as a replica does, and checks each of them against books kept in another way.

    The books have a number for each request and are summed up over all members of each batch, where the replica
    keeps totals.

    Laws: a decision names requests that are there, once each, in the state that it takes them to be in; chunks go on
    where the last one ended and not beyond the prompt; totals of a batch are those of its members; held and free KV
    blocks are all blocks, and each request holds enough for its tokens; requests that have arrived are waiting,
    running or gone; a request ends with exactly the tokens that it was to emit; no batch is larger than its policy
    says, no more requests run than its policy admits.

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
            *arguments: As of `Replica`.
            books: Of all requests; shared by the replicas.
            max_tokens: Tokens of a batch at most, unless it has as many decodes; None: the policy does not say.
            max_num_seqs: Running requests at most; None: the policy does not say.
            **options: As of `Replica`.
        """
        super().__init__(*arguments, **options)
        self.emissions: list[tuple[int, int, Ints]] = []
        self._books = books
        self._max_tokens = max_tokens
        self._max_num_seqs = max_num_seqs
        self._flights: deque[_Flight] = deque()
        self._queued: dict[int, None] = {}
        self._prefills: dict[int, None] = {}
        self._decodes = _NOBODY  # those that are not in flight
        self._num_admitted = 0  # running, in flight or not
        self._held = 0

    def enqueue(self, request: int) -> bool:
        """Put an arriving request at the back of the queue."""
        if request in self._queued or request in self.running:
            raise broken("request", request, "arrives although it is there already")
        self._queued[request] = None
        # Tokens that it got elsewhere are prompt here.
        self._books.prefill[request] = self.requests.known_tokens[request]
        return super().enqueue(request)

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a decision."""
        flight = self._book(batch)
        started = super().start(batch)
        if (started is not None) != bool(len(flight.decodes) or flight.chunks):
            raise broken("a batch without tokens is in flight, or one with tokens is not")
        if started is not None:
            self._flights.append(flight)
        self.check_totals()
        return started

    def finish(self) -> list[int]:
        """End the oldest batch in flight."""
        if not self._flights:
            raise broken("a batch ends although none is in flight")
        flight = self._flights.popleft()
        expected = self._settle(flight, self.num_finished - flight.repetitions)
        finished = super().finish()
        if (finished or expected) and sorted(finished) != sorted(expected):
            raise broken("requests", finished, "end instead of", expected)
        return finished

    def repeat(self, batch: Batch) -> Iterator[int]:
        """End the batch in flight and start the same decision again."""
        (flight,) = self._flights
        # Decodes whose next token but so many begins a KV block.
        flight.needing = needing = [0] * self.block_size
        num_decodes = len(flight.decodes)
        if self._appends_blocks and num_decodes:
            distances = -(self._books.context[flight.decodes] + 1) % self.block_size
            flight.needing = needing = np.bincount(distances, minlength=self.block_size).tolist()
        free_blocks, context, prefilled = self.free_blocks, batch.decode_context_tokens, batch.prefill_context_tokens
        num_prefill_tokens, distance = batch.num_prefill_tokens, 0
        for held in super().repeat(batch):
            flight.repetitions += 1
            free_blocks -= needing[distance]
            context += num_decodes
            prefilled += num_prefill_tokens
            distance = distance + 1 if distance + 1 < self.block_size else 0
            if held != free_blocks or held < 0:
                raise broken(held, "KV blocks are free instead of", free_blocks)
            if batch.decode_context_tokens != context or batch.prefill_context_tokens != prefilled:
                raise broken("a repeated batch does not go on by a token for each one computed")
            yield held

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose everything."""
        books = self._books
        for flight in self._flights:
            if flight.repetitions:  # what it did before the iteration that is broken off
                flight.repetitions -= 1
                if self._settle(flight, self.num_finished - flight.repetitions - 1):
                    raise broken("a request ended in a batch that went on")
        admitted = {*self._prefills, *self._decodes.tolist()}
        for flight in self._flights:
            admitted |= {*flight.decodes.tolist(), *flight.chunks}
        decoding = [one for flight in self._flights for one in flight.decodes.tolist()] + self._decodes.tolist()
        books.prefill[decoding] = books.context[decoding] + 1
        cached = int(books.context[sorted(admitted)].sum())
        if cached != self.cached_tokens:
            raise broken(self.cached_tokens, "tokens are in the KV cache instead of", cached)
        running, waiting = super().fail()
        if {*running} != admitted or {*waiting} != {*self._queued}:
            raise broken("a failure throws out", running, waiting, "instead of", admitted, [*self._queued])
        for request in running:
            if self.requests.known_tokens[request] != books.prefill[request]:
                raise broken(
                    "request", request, "is not known by its", books.prefill[request], "tokens after a failure"
                )
        books.context[running] = books.blocks[running] = 0
        self._flights.clear()
        self._queued.clear()
        self._prefills.clear()
        self._decodes, self._num_admitted, self._held = _NOBODY, 0, 0
        self.check_totals()
        return running, waiting

    def _book(self, batch: Batch) -> _Flight:
        """Enter a decision."""
        for request in batch.preempted:
            self._evict_from_books(request)
        for request in batch.ignored:
            if self._queued.pop(request, 0) is not None:
                raise broken("request", request, "is ignored and does not wait")
        flight = _Flight(self._decodes_of(batch) if batch.num_decodes else _NOBODY, {})
        num_tokens = context = 0
        for chunk in batch.chunks:
            self._book_chunk(flight, chunk)
            num_tokens += chunk.num_tokens
            context += chunk.context_tokens
        if num_tokens != batch.num_prefill_tokens or context != batch.prefill_context_tokens:
            raise broken(
                f"the batch says {batch.num_prefill_tokens} prompt tokens after {batch.prefill_context_tokens} "
                f"and has {num_tokens} after {context}"
            )
        num_decodes, limit = len(flight.decodes), self._max_tokens
        if limit is not None and num_tokens + num_decodes > max(limit, num_decodes):
            raise broken("a batch has", num_tokens + num_decodes, "tokens, of", limit)
        return flight

    def _decodes_of(self, batch: Batch) -> Ints:
        """Return the requests that decode in a batch, and give them the KV block that they need."""
        books, members = self._books, self._decodes
        self._decodes = _NOBODY
        if batch.skipped_decodes:
            stays = np.isin(members, list(batch.skipped_decodes))
            members, self._decodes = members[~stays], members[stays]
        context = books.context[members]
        total = int(_sum(context))
        if len(members) != batch.num_decodes or total != batch.decode_context_tokens:
            raise broken(
                f"the batch says {batch.num_decodes} decodes of {batch.decode_context_tokens} tokens and has "
                f"{len(members)} of {total}"
            )
        if self._appends_blocks:  # else they have what they will ever have, and engines let them write beyond it
            self._held += int(np.count_nonzero(context % self.block_size == 0))
        return members

    def _book_chunk(self, flight: _Flight, chunk: PrefillChunk) -> None:
        request, books = chunk.request, self._books
        context = int(books.context[request])
        if request in self._queued:
            del self._queued[request]
            self._num_admitted += 1
            # A policy may know of tokens that are in the cache already.
            books.context[request] = context = max(0, chunk.context_tokens)
        elif request in self._prefills:
            del self._prefills[request]
        else:
            raise broken("request", request, "has a chunk and neither waits nor has a prefill to go on with")
        left = int(books.prefill[request]) - context
        if chunk.context_tokens != context or not 0 < chunk.num_tokens <= left:
            raise broken(
                f"request {request} has a chunk of {chunk.num_tokens} tokens after {chunk.context_tokens}; {context} "
                f"are computed and {left} are left"
            )
        flight.chunks[request] = chunk.num_tokens
        books.blocks[request] += chunk.num_blocks
        self._held += chunk.num_blocks
        if books.blocks[request] * self.block_size < context + chunk.num_tokens:
            raise broken("request", request, "has", books.blocks[request], "KV blocks, too few for its chunk")

    def _settle(self, flight: _Flight, first: int) -> list[int]:
        """Enter what a batch and its repetitions computed, and return the requests that end with it.

        Args:
            flight: The batch, no longer in flight.
            first: Number of its iteration.
        """
        books, times, members = self._books, flight.repetitions + 1, flight.decodes
        finished: list[int] = []
        if len(members):
            context = books.context[members] + times
            books.context[members] = context
            # Blocks of repetitions; that of the first iteration was taken when it began.
            rounds, rest = divmod(flight.repetitions, self.block_size)
            self._held += rounds * len(members) * self._appends_blocks + sum(flight.needing[:rest])
            self.emissions.append((first, times, members))
            members = self._still_there(members, books.last[members] - context, finished)
        begun = []
        for request, num_tokens in flight.chunks.items():
            books.context[request] += num_tokens * times
            left = int(books.prefill[request] - books.context[request])
            if left < 0:
                raise broken("request", request, "computes more than its prompt")
            if left:
                self._prefills[request] = None
            else:
                begun.append(request)
        if begun:
            new = np.array(begun)
            self._require_exact_blocks(new)
            self.emissions.append((first + times - 1, 1, new))
            new = self._still_there(new, books.last[new] - books.context[new], finished)
            members = np.concatenate([members, new])
        self._decodes = np.concatenate([self._decodes, members]) if len(self._decodes) else members
        if finished:
            self._num_admitted -= len(finished)
            self._held -= sum(self._blocks_of(request) for request in finished)
        return finished

    @staticmethod
    def _still_there(members: Ints, left: Ints, finished: list[int]) -> Ints:
        """Return the requests that have tokens left to emit; the others are added to `finished`."""
        least = _least(left)
        if least > 0:
            return members
        if least < 0:
            raise broken("request", members[left.argmin()], "emits more tokens than it is to")
        finished += members[left == 0].tolist()
        return members[left > 0]

    def _require_exact_blocks(self, requests: Ints) -> None:
        """Check that complete prefills have the blocks of their tokens: a decode takes the next when they are full."""
        books = self._books
        needed = -(-books.context[requests] // self.block_size)
        if self._appends_blocks and (books.blocks[requests] != needed).any():
            raise broken("requests", requests, "have", books.blocks[requests], "KV blocks for prefills of", needed)

    def _blocks_of(self, request: int, computing: int = 0) -> int:
        """KV blocks of a request that decodes, and of so many tokens more that are being computed."""
        if not self._appends_blocks:
            return int(self._books.blocks[request])
        return -(-(int(self._books.context[request]) + computing) // self.block_size)

    def _evict_from_books(self, request: int) -> None:
        books = self._books
        in_flight = [flight for flight in self._flights if request in flight.chunks or request in flight.decodes]
        computing = sum(request in flight.decodes for flight in in_flight)
        for flight in in_flight:
            flight.chunks.pop(request, None)
            flight.decodes = flight.decodes[flight.decodes != request]
        if computing or request in self._decodes:
            self._held -= self._blocks_of(request, computing)
            books.prefill[request] = books.context[request] + 1  # and the token that is not in the cache yet
        elif in_flight or request in self._prefills:
            self._held -= int(books.blocks[request])
        else:
            raise broken("request", request, "is preempted and does not run")
        self._prefills.pop(request, None)
        self._decodes = self._decodes[self._decodes != request]
        books.context[request] = books.blocks[request] = 0
        self._num_admitted -= 1
        self._queued[request] = None

    def check_totals(self) -> None:
        """Compare the books with the state.

        Raises:
            InvariantError: They differ.
        """
        if self.free_blocks < 0 or self._held + self.free_blocks != self.num_blocks:
            raise broken(f"{self._held} KV blocks held and {self.free_blocks} free are not {self.num_blocks}")
        if len(self.running) != self._num_admitted or len(self.waiting) != len(self._queued):
            raise broken(
                f"{len(self.running)} requests run and {len(self.waiting)} wait instead of {self._num_admitted} and "
                f"{len(self._queued)}"
            )
        if self._max_num_seqs is not None and len(self.running) > self._max_num_seqs:
            raise broken(len(self.running), "requests run, of", self._max_num_seqs)
        if len(self.in_flight) != len(self._flights):
            raise broken("a batch in flight is missing")
