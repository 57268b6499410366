"""A replica whose requests may have work in several batches in flight, as in the engine core of vLLM V1."""

from collections import deque
from typing import Any

from simulator.log import Members
from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.queue import Rank, SortedQueue
from simulator.replica.replica import Replica
from simulator.replica.requests import RequestTable

# What a batch in flight makes for a request.
_NOTHING, _DECODED, _PREFILLED = range(3)


class _Flight:
    """What is remembered of a batch in flight beside its members.

    Attributes:
        members: Requests that decode in it; None: those of its decode set, which rests until it ends.
        iteration: Count of the decode set's iterations with it.
        ending: Requests whose last token it makes by decoding.
        awaiting_results: Requests that were preempted meanwhile, and what it makes for them.
    """

    __slots__ = ("awaiting_results", "ending", "iteration", "members")

    def __init__(self) -> None:
        self.members: list[int] | None = None
        self.iteration = 0
        self.ending: list[int] = []
        self.awaiting_results: dict[int, int] = {}


class OverlappingReplica(Replica):
    """Carries out decisions that count on what is still in flight.

    Tokens count as computed as soon as they are scheduled: the next chunk of a prompt may follow in the next batch
    and, if the policy schedules ahead, the next token of a decode while nobody knows the one before it. What comes
    back for a request that was preempted meanwhile counts too, and until then it is not admitted again.

    A request that is too long for the model is refused when it arrives; one whose answer is gets as much of it as
    there is room for.

    Attributes:
        lookahead: After how many calls of the policy a decode may be scheduled again; 0: when its token is known.
        step: The batch so far, between the steps of a decision; None: the next step is the first one.
        awaiting_results: Waiting requests with work in flight, and in how many batches.
        note: What the policy noted last.
    """

    __slots__ = (
        "_flights",
        "_num_calls",
        "_rank",
        "_resting",
        "_step_decodes",
        "awaiting_results",
        "lookahead",
        "note",
        "step",
    )

    def __init__(
        self,
        requests: RequestTable,
        *,
        lookahead: int = 0,
        rank: Rank | None = None,
        **options: Any,
    ) -> None:
        """Start empty.

        Args:
            requests: Table of all requests of the run.
            lookahead: After how many calls of the policy a decode may be scheduled again; 0: when its token is known.
            rank: What waiting requests are sorted by; None: their arrival.
            **options: As of `Replica`.
        """
        super().__init__(requests, **options)
        self.lookahead = lookahead
        self._rank = rank
        if rank is not None:
            self.waiting = SortedQueue(rank)
        self.step: Batch | None = None
        self.awaiting_results: dict[int, int] = {}
        self.note: object = None
        self._step_decodes: DecodeSet | None = None
        self._flights: deque[_Flight] = deque()
        # Decode sets that were scheduled ahead, and the number of the call that did.
        self._resting: deque[tuple[int, DecodeSet]] = deque()
        self._num_calls = 0

    # -- questions that policies ask ------------------------------------------------------------

    @property
    def num_started(self) -> int:
        """Batches that were put in flight so far."""
        return self.num_finished + len(self.in_flight)

    def blocks_held(self, request: int) -> int:
        """KV blocks that a running request holds."""
        if not self.lookahead or request in self.prefilling:
            return super().blocks_held(request)
        return self.blocks_for(self._scheduled_tokens(request))

    def known_tokens(self, request: int) -> int:
        """Prompt and output tokens of a waiting or running request that are known so far."""
        if request not in self.running or request in self.prefilling:
            return self.requests.known_tokens[request]
        if not self.lookahead:
            return super().known_tokens(request)
        return self._scheduled_tokens(request) + 1 - self._num_tokens_in_flight(request)

    @property
    def cached_tokens(self) -> int:
        """Tokens of running requests whose keys and values are in the KV cache."""
        if not self.lookahead:
            return super().cached_tokens
        scheduled = sum(map(self._scheduled_tokens, self.running))
        flying = 0
        for (batch, _), flight in zip(self.in_flight, self._flights, strict=True):
            flying += sum(request not in flight.awaiting_results for request in flight.members or ())
            flying += sum(chunk.num_tokens for chunk in batch.chunks if chunk.request not in flight.awaiting_results)
        return scheduled - flying

    def decode_sets(self) -> list[DecodeSet]:
        """Sets that decoding requests may be in."""
        sets = [self.decoding, *(decodes for _, decodes in self._resting)] if self.lookahead else super().decode_sets()
        return sets if self._step_decodes is None else [*sets, self._step_decodes]

    def members(self) -> Members:
        """Request, tokens and whether they are prompt tokens of each member of the batch that was started last.

        In the order of the running requests. A last token before a preemption that is computed again, alone, is no
        prompt token.
        """
        batch, decodes = self.in_flight[-1]
        known, prompts = self.requests.known_tokens, self.requests.prompt_tokens
        rows = {}
        for chunk in batch.chunks:
            begins_before = max(prompts[chunk.request], known[chunk.request] - 1)
            rows[chunk.request] = chunk.request, chunk.num_tokens, chunk.context_tokens < begins_before
        members = self._flights[-1].members
        for request in (decodes or ()) if members is None else members:
            rows[request] = request, 1, False
        return [rows[request] for request in self.running if request in rows]

    # -- changes --------------------------------------------------------------------------------

    def enqueue(self, request: int) -> bool:
        """Put an arriving request in the queue, unless its prompt leaves no room for a token."""
        requests = self.requests
        if requests.known_tokens[request] >= self.max_model_len:
            self.request_events.ignored.append(request)
            return False
        requests.total_tokens[request] = min(requests.total_tokens[request], self.max_model_len)
        self.num_futile_preemptions = 0
        return super().enqueue(request)

    def begin_call(self) -> None:
        """Note that the policy is asked for another batch: decodes that were scheduled long enough ago are ready."""
        self._num_calls += 1
        while self._resting and self._resting[0][0] <= self._num_calls - self.lookahead:
            self._wake(self._resting.popleft()[1])

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a step of a decision, and put the batch in flight if it was the last one and there are tokens."""
        if batch.note is not None:
            self.note = batch.note
        for request in batch.preempted:
            self._preempt(request)
        if batch.num_decodes:
            self._take_decodes(batch)
        for chunk in batch.chunks:
            self._take_blocks(chunk)
        if self.free_blocks < 0:
            raise RuntimeError(f"the batch takes {-self.free_blocks} KV blocks more than there are")
        self._cache_filled(batch)
        if self.step is not None:
            self.step.extend(batch)
            batch, is_open = self.step, batch.is_open
        else:
            is_open = batch.is_open
        self.step = batch if is_open else None
        if is_open or not batch.num_tokens:
            return None
        self._launch(batch)
        return batch

    def _take_decodes(self, batch: Batch) -> None:
        decodes = self._step_decodes = self.decoding
        self.decoding = self._idle_sets.pop()
        if batch.skipped_decodes:
            self._skip_decodes(batch, decodes)
        if decodes.num_requests != batch.num_decodes:
            raise RuntimeError(f"the batch decodes {batch.num_decodes} of {decodes.num_requests} requests")
        self.free_blocks -= decodes.num_new_blocks

    def _take_blocks(self, chunk: PrefillChunk) -> None:
        request = chunk.request
        if request not in self.prefilling:
            self._admit(chunk)
        self.prefilling[request] = chunk.context_tokens + chunk.num_tokens
        self.free_blocks -= chunk.num_blocks
        self._held_blocks[request] = self._held_blocks.get(request, 0) + chunk.num_blocks

    def _cache_filled(self, batch: Batch) -> None:
        """Note what a step, whose KV blocks have just been taken, fills them with."""

    def _launch(self, batch: Batch) -> None:
        decodes, flight = self._step_decodes, _Flight()
        self._step_decodes = None
        self.in_flight.append((batch, decodes))
        self._flights.append(flight)
        self.last_batch_prefilled = bool(batch.chunks)
        if decodes is not None:
            flight.iteration = decodes.iteration + 1
        if self.lookahead:
            self._count_ahead(batch, decodes, flight)

    def _count_ahead(self, batch: Batch, decodes: DecodeSet | None, flight: _Flight) -> None:
        """Count the tokens of a batch in flight, so that the next ones can be scheduled."""
        flight.members = []
        if decodes is not None:
            flight.members += decodes
            left = decodes.advance()
            self.request_events.decode_spans += left
            flight.ending += [decode_span[0] for decode_span in left]
        else:
            decodes = self._idle_sets.pop()
        for chunk in batch.chunks:
            if self._completes(chunk):
                self._join(chunk.request, decodes, flight.ending)
        if self.lookahead == 1:
            self._wake(decodes)
        else:
            self._resting.append((self._num_calls, decodes))

    def _completes(self, chunk: PrefillChunk) -> bool:
        return chunk.context_tokens + chunk.num_tokens >= self.requests.known_tokens[chunk.request]

    def _join(self, request: int, decodes: DecodeSet, finished: list[int]) -> None:
        """Let a request whose prefill is complete decode, if that did not give its last token."""
        del self.prefilling[request]
        del self._held_blocks[request]
        context_tokens = self.requests.known_tokens[request]
        num_remaining = self.requests.total_tokens[request] - context_tokens - 1
        if num_remaining == 0:
            finished.append(request)
            return
        decodes.add(request, context_tokens, num_remaining, True)

    def _wake(self, decodes: DecodeSet) -> None:
        """Let a decode set be scheduled again."""
        self.decoding = self._merge(decodes, self.decoding)

    def finish(self) -> list[int]:
        """End the oldest batch in flight: advance its requests, and free those that are done."""
        batch, decodes = self.in_flight.popleft()
        flight = self._flights.popleft()
        finished = [request for request in flight.ending if request not in flight.awaiting_results]
        if not self.lookahead and decodes is not None:
            left = decodes.advance()
            self.request_events.decode_spans += left
            finished += [decode_span[0] for decode_span in left]
            self._wake(decodes)
        for chunk in batch.chunks:
            if chunk.request not in flight.awaiting_results and self._completes(chunk):
                self.request_events.prefill_ends.append((chunk.request, self.num_finished))
                self.num_futile_preemptions = 0
                if not self.lookahead:
                    self._join(chunk.request, self.decoding, finished)
        if decodes is not None:
            self.num_futile_preemptions = 0
        for request in self._in_batch_order(finished):
            self._release(request)
        if flight.awaiting_results:
            finished += self._take_late(flight)
        self.num_finished += 1
        return finished

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose everything, as `Replica.fail`; what is in flight gives no token to anybody."""
        running, waiting = self.by_arrival(), list(self.waiting)
        known = [self.known_tokens(request) for request in running]
        for request, num_tokens in zip(running, known, strict=True):
            self.requests.known_tokens[request] = num_tokens
            self._leave_decodes(request)
        # The latest tokens first: each is then the last one that its request was to get.
        for (_, decodes), flight in reversed([*zip(self.in_flight, self._flights, strict=True)]):
            late = [request for request, token in flight.awaiting_results.items() if token == _DECODED]
            for request in [one for one in flight.members or () if one not in flight.awaiting_results] + late:
                assert decodes is not None
                self._retract(request, decodes.index, flight.iteration)
            if not self.lookahead and decodes is not None:
                decodes.advance()
                self._idle_sets.append(decodes)
        for _, decodes in self._resting:
            self._idle_sets.append(decodes)
        self.num_finished += len(self.in_flight)
        self.free_blocks = self.num_blocks
        self.note = None
        for part in (self.running, self.waiting, self.prefilling, self.in_flight, self.awaiting_results, self._flights):
            part.clear()
        self._held_blocks.clear()
        self._resting.clear()
        return running, waiting

    def _retract(self, request: int, index: int, iteration: int) -> None:
        """Let a request not have the token of an iteration of a decode set, the last one that it was to get there."""
        decode_spans = self.request_events.decode_spans
        for place in reversed(range(len(decode_spans))):
            one, other, joined, left = decode_spans[place]
            if one == request and other == index and joined < iteration <= left:
                decode_spans[place : place + 1] = [(one, other, joined, left - 1)] * (left - 1 > joined)
                return
        raise RuntimeError(f"request {request} was to get no token that could be lost")

    def _evict(self, request: int) -> None:
        """Take a running request's KV blocks and what was computed for it; its tokens are prefill from now on."""
        self.num_futile_preemptions += not self._is_below_others(request)
        known = self.known_tokens(request)
        computed = known - 1 if self.lookahead and request not in self.prefilling else self._scheduled_tokens(request)
        self._give_back(request, self.blocks_held(request), computed)
        for (batch, decodes), flight in zip(self.in_flight, self._flights, strict=True):
            token = self._token_of(request, batch, decodes, flight)
            if token is not None:
                flight.awaiting_results[request] = token
                self.awaiting_results[request] = self.awaiting_results.get(request, 0) + 1
        self._leave_decodes(request, late=True)
        self.requests.known_tokens[request] = known
        self._held_blocks.pop(request, None)
        self.prefilling.pop(request, None)
        del self.running[request]

    def _is_below_others(self, request: int) -> bool:
        """Whether a running request is more urgent than one that is preempted, and so will get on."""
        if self._rank is None:
            return len(self.running) > 1
        urgency = self.requests.urgency
        return any(urgency(one) < urgency(request) for one in self.running)

    def _leave_decodes(self, request: int, late: bool = False) -> None:
        """Take a request out of its decode set; a token in flight that comes late is its last one there."""
        for decodes in self.decode_sets():
            if request in decodes:
                flies = not self.lookahead and late and decodes is not self.decoding
                _, index, joined, left = decodes.remove(request)
                self._log_decode_span((request, index, joined, left + flies))
                return

    def _take_late(self, flight: _Flight) -> list[int]:
        """Take what comes back for requests that were preempted, and return those that end with it."""
        finished = []
        for request, token in flight.awaiting_results.items():
            self.awaiting_results[request] -= 1
            if not self.awaiting_results[request]:
                del self.awaiting_results[request]
            if token == _NOTHING:
                continue
            self.num_futile_preemptions = 0
            if token == _PREFILLED:
                self.request_events.prefill_ends.append((request, self.num_finished))
            self.requests.known_tokens[request] += 1
            if self.requests.known_tokens[request] == self.requests.total_tokens[request]:
                self.waiting.remove(request)
                self._end(request)
                finished.append(request)
        return finished

    def _release(self, request: int) -> None:
        computed = self.requests.total_tokens[request] - 1
        self._give_back(request, self.blocks_for(computed), computed)
        del self.running[request]
        self._end(request)

    def _end(self, request: int) -> None:
        self.request_events.finishes.append((request, self.num_finished))

    def _give_back(self, request: int, num_blocks: int, computed_tokens: int) -> None:  # noqa: ARG002
        """Free the KV blocks of a request, in which so many tokens are or are being computed."""
        self.free_blocks += num_blocks

    # -- where a request is ---------------------------------------------------------------------

    def _scheduled_tokens(self, request: int) -> int:
        """Tokens of a running request that are computed or being computed."""
        if request in self.prefilling:
            return self.prefilling[request]
        for decodes in self.decode_sets():
            if request in decodes:
                flies = not self.lookahead and decodes is not self.decoding and decodes is not self._step_decodes
                return decodes.context_of(request) + flies
        return self.requests.total_tokens[request] - 1

    def _num_tokens_in_flight(self, request: int) -> int:
        """Tokens that batches in flight make for a running request."""
        tokens = (
            self._token_of(request, batch, decodes, flight)
            for (batch, decodes), flight in zip(self.in_flight, self._flights, strict=True)
        )
        return sum(token in (_DECODED, _PREFILLED) for token in tokens)

    def _token_of(self, request: int, batch: Batch, decodes: DecodeSet | None, flight: _Flight) -> int | None:
        """What a batch in flight makes for a running request; None: it has no part in the batch."""
        members = (decodes or ()) if flight.members is None else flight.members
        if request in members:
            return _DECODED
        for chunk in batch.chunks:
            if chunk.request == request:
                return _PREFILLED if self._completes(chunk) else _NOTHING
        return None

    def _in_batch_order(self, requests: list[int]) -> list[int]:
        """Return requests of one batch in its order, if anything depends on it."""
        return requests
