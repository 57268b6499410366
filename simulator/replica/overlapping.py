"""Replica with overlapping batches in flight, as in vLLM V1's engine core."""

from collections import deque
from typing import Any

from simulator.log import Members
from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.queue import Rank, SortedQueue
from simulator.replica.replica import Replica
from simulator.replica.requests import RequestTable

# Kind of token that a batch in flight produces for a request.
_NO_TOKEN, _DECODE_TOKEN, _PREFILL_TOKEN = range(3)


class _Flight:
    """State of a batch in flight that `Batch` and `DecodeSet` lack.

    Attributes:
        members: Requests that decode in it; None: those of its decode set, not scheduled again until it ends.
        iteration: Iterations of the decode set, this one included.
        finishing: With lookahead, requests that the batch gives their last token; otherwise empty.
        awaiting_results: Requests preempted since the batch started, and the kind of token it produces for them.
    """

    __slots__ = ("awaiting_results", "finishing", "iteration", "members")

    def __init__(self) -> None:
        self.members: list[int] | None = None
        self.iteration = 0
        self.finishing: list[int] = []
        self.awaiting_results: dict[int, int] = {}


class OverlappingReplica(Replica):
    """A replica scheduled before the results of batches in flight are known.

    Tokens count as computed as soon as they are scheduled: the next chunk of a prompt may follow in the next batch
    and, with lookahead, the next token of a decode before the previous one is known. A request preempted with work in
    flight still gets the resulting tokens, and is readmitted only afterwards.

    A request whose prompt is too long for the model is refused when it arrives; an output that is too long is cut off
    at `max_model_len`.

    Attributes:
        lookahead: Calls of the policy until a decode may be scheduled again; 0: when its token is known.
        step: Batch so far of a decision taken in steps; None: the next step is the first one.
        awaiting_results: Waiting requests that were preempted with work in flight, and in how many batches it is.
        note: Latest note of the policy.
    """

    __slots__ = (
        "_busy_sets",
        "_flights",
        "_num_calls",
        "_rank",
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
            requests: Table of all requests of the simulation.
            lookahead: Calls of the policy until a decode may be scheduled again; 0: when its token is known.
            rank: Sort key of waiting requests; None: first come, first served.
            **options: Options of `Replica`.
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
        # Decode sets that may not be scheduled again yet, and the number of the call that scheduled them.
        self._busy_sets: deque[tuple[int, DecodeSet]] = deque()
        self._num_calls = 0

    # -- questions that policies ask ------------------------------------------------------------

    @property
    def num_started(self) -> int:
        """Batches put in flight so far."""
        return self.num_finished + len(self.in_flight)

    def num_blocks_of(self, request: int) -> int:
        """Return the number of KV blocks of a running request."""
        if not self.lookahead or request in self.prefilling:
            return super().num_blocks_of(request)
        return self.blocks_for(self._scheduled_tokens(request))

    def known_tokens(self, request: int) -> int:
        """Return how many tokens of a request are known, prompt and output.

        The request is waiting or running.
        """
        if request not in self.running or request in self.prefilling:
            return self.requests.known_tokens[request]
        if not self.lookahead:
            return super().known_tokens(request)
        return self._scheduled_tokens(request) + 1 - self._num_tokens_in_flight(request)

    @property
    def cached_tokens(self) -> int:
        """Tokens of running requests with keys and values in the KV cache."""
        if not self.lookahead:
            return super().cached_tokens
        scheduled = sum(map(self._scheduled_tokens, self.running))
        num_in_flight = 0
        for (batch, _), flight in zip(self.in_flight, self._flights, strict=True):
            num_in_flight += sum(request not in flight.awaiting_results for request in flight.members or ())
            num_in_flight += sum(
                chunk.num_tokens for chunk in batch.chunks if chunk.request not in flight.awaiting_results
            )
        return scheduled - num_in_flight

    def decode_sets(self) -> list[DecodeSet]:
        """Return the decode sets that may have members."""
        sets = [self.decoding, *(busy for _, busy in self._busy_sets)] if self.lookahead else super().decode_sets()
        return sets if self._step_decodes is None else [*sets, self._step_decodes]

    def members(self) -> Members:
        """Return the members of the batch started last.

        Each is (request, tokens, whether they are prompt tokens), in the order of the running requests. A chunk that
        only recomputes the last token before a preemption has no prompt tokens.
        """
        batch, decodes = self.in_flight[-1]
        known, prompts = self.requests.known_tokens, self.requests.prompt_tokens
        rows = {}
        for chunk in batch.chunks:
            prompt_end = max(prompts[chunk.request], known[chunk.request] - 1)
            rows[chunk.request] = chunk.request, chunk.num_tokens, chunk.context_tokens < prompt_end
        members = self._flights[-1].members
        for request in (decodes or ()) if members is None else members:
            rows[request] = request, 1, False
        return [rows[request] for request in self.running if request in rows]

    # -- changes --------------------------------------------------------------------------------

    def enqueue(self, request: int) -> bool:
        """Queue an arriving request, unless its prompt leaves no room for output.

        Returns:
            Whether it waits; False: it was refused.
        """
        requests = self.requests
        if requests.known_tokens[request] >= self.max_model_len:
            self.request_events.ignored.append(request)
            return False
        requests.total_tokens[request] = min(requests.total_tokens[request], self.max_model_len)
        self.num_futile_preemptions = 0
        return super().enqueue(request)

    def begin_schedule(self) -> None:
        """Start a call of the policy.

        Decodes scheduled `lookahead` calls ago may be scheduled again.
        """
        self._num_calls += 1
        while self._busy_sets and self._busy_sets[0][0] <= self._num_calls - self.lookahead:
            self._make_schedulable(self._busy_sets.popleft()[1])

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a step of a decision.

        After the last step, put a batch with tokens in flight.
        """
        if batch.note is not None:
            self.note = batch.note
        for request in batch.preempted:
            self._preempt(request)
        if batch.num_decodes:
            self._start_decodes(batch)
        for chunk in batch.chunks:
            self._start_chunk(chunk)
        if self.free_blocks < 0:
            raise RuntimeError(f"the batch needs {-self.free_blocks} more KV blocks than are free")
        self._cache_filled(batch)
        if self.step is not None:
            self.step.extend(batch)
            batch, is_open = self.step, batch.is_open
        else:
            is_open = batch.is_open
        self.step = batch if is_open else None
        if is_open or not batch.num_tokens:
            return None
        self._put_in_flight(batch)
        return batch

    def _start_decodes(self, batch: Batch) -> None:
        decodes = self._step_decodes = self.decoding
        self.decoding = self._idle_sets.pop()
        if batch.skipped_decodes:
            self._skip_decodes(batch, decodes)
        if decodes.num_requests != batch.num_decodes:
            raise RuntimeError(f"the batch decodes {batch.num_decodes} of {decodes.num_requests} requests")
        self.free_blocks -= decodes.num_new_blocks

    def _start_chunk(self, chunk: PrefillChunk) -> None:
        request = chunk.request
        if request not in self.prefilling:
            self._admit(chunk)
        self.prefilling[request] = chunk.context_tokens + chunk.num_tokens
        self.free_blocks -= chunk.num_blocks
        self._allocated_blocks[request] = self._allocated_blocks.get(request, 0) + chunk.num_blocks

    def _cache_filled(self, batch: Batch) -> None:
        """Cache the KV blocks that a step fills, once they are allocated.

        Without a prefix cache, do nothing.
        """

    def _put_in_flight(self, batch: Batch) -> None:
        decodes, flight = self._step_decodes, _Flight()
        self._step_decodes = None
        self.in_flight.append((batch, decodes))
        self._flights.append(flight)
        self.last_batch_prefilled = bool(batch.chunks)
        if decodes is not None:
            flight.iteration = decodes.iteration + 1
        if self.lookahead:
            self._update_after_schedule(batch, decodes, flight)

    def _update_after_schedule(self, batch: Batch, decodes: DecodeSet | None, flight: _Flight) -> None:
        """Count the tokens of a batch as computed.

        The next tokens of its requests can then be scheduled.
        """
        flight.members = []
        if decodes is not None:
            flight.members += decodes
            left = decodes.advance()
            self.request_events.decode_spans += left
            flight.finishing += [decode_span[0] for decode_span in left]
        else:
            decodes = self._idle_sets.pop()
        for chunk in batch.chunks:
            if self._completes(chunk):
                self._start_decoding(chunk.request, decodes, flight.finishing)
        if self.lookahead == 1:
            self._make_schedulable(decodes)
        else:
            self._busy_sets.append((self._num_calls, decodes))

    def _completes(self, chunk: PrefillChunk) -> bool:
        return chunk.context_tokens + chunk.num_tokens >= self.requests.known_tokens[chunk.request]

    def _start_decoding(self, request: int, decodes: DecodeSet, finished: list[int]) -> None:
        """Start the decodes of a request whose prefill is complete.

        If its last token came with the prefill, append it to `finished` instead.
        """
        del self.prefilling[request]
        del self._allocated_blocks[request]
        context_tokens = self.requests.known_tokens[request]
        num_remaining = self.requests.total_tokens[request] - context_tokens - 1
        if num_remaining == 0:
            finished.append(request)
            return
        decodes.add(request, context_tokens, num_remaining, True)

    def _make_schedulable(self, decodes: DecodeSet) -> None:
        """Merge a decode set into the one that can be scheduled."""
        self.decoding = self._merge(decodes, self.decoding)

    def finish(self) -> list[int]:
        """End the oldest batch in flight: advance its requests, free finished ones."""
        batch, decodes = self.in_flight.popleft()
        flight = self._flights.popleft()
        finished = [request for request in flight.finishing if request not in flight.awaiting_results]
        if not self.lookahead and decodes is not None:
            left = decodes.advance()
            self.request_events.decode_spans += left
            finished += [decode_span[0] for decode_span in left]
            self._make_schedulable(decodes)
        for chunk in batch.chunks:
            if chunk.request not in flight.awaiting_results and self._completes(chunk):
                self.request_events.prefill_ends.append((chunk.request, self.num_finished))
                self.num_futile_preemptions = 0
                if not self.lookahead:
                    self._start_decoding(chunk.request, self.decoding, finished)
        if decodes is not None:
            self.num_futile_preemptions = 0
        for request in self._in_batch_order(finished):
            self._free_request(request)
        if flight.awaiting_results:
            finished += self._take_awaited_results(flight)
        self.num_finished += 1
        return finished

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop everything, as `Replica.fail`; batches in flight give no tokens."""
        running, waiting = self.by_arrival(), list(self.waiting)
        known = [self.known_tokens(request) for request in running]
        for request, num_tokens in zip(running, known, strict=True):
            self.requests.known_tokens[request] = num_tokens
            self._stop_decoding(request)
        # The latest batch first: its token is then the last one of the request's decode span.
        for (_, decodes), flight in reversed([*zip(self.in_flight, self._flights, strict=True)]):
            preempted = [request for request, token in flight.awaiting_results.items() if token == _DECODE_TOKEN]
            members = [request for request in flight.members or () if request not in flight.awaiting_results]
            for request in members + preempted:
                assert decodes is not None
                self._discard_token(request, decodes.index, flight.iteration)
            if not self.lookahead and decodes is not None:
                decodes.advance()
                self._idle_sets.append(decodes)
        for _, decodes in self._busy_sets:
            self._idle_sets.append(decodes)
        self.num_finished += len(self.in_flight)
        self.free_blocks = self.num_blocks
        self.note = None
        for part in (self.running, self.waiting, self.prefilling, self.in_flight, self.awaiting_results, self._flights):
            part.clear()
        self._allocated_blocks.clear()
        self._busy_sets.clear()
        return running, waiting

    def _discard_token(self, request: int, index: int, iteration: int) -> None:
        """Remove the token of an iteration from a request's decode spans.

        The token is the last one of its decode span.

        Args:
            request: The request.
            index: Index of the decode set.
            iteration: Iteration of the set.

        Raises:
            RuntimeError: No decode span covers the iteration.
        """
        decode_spans = self.request_events.decode_spans
        for position in reversed(range(len(decode_spans))):
            span_request, span_set, joined, left = decode_spans[position]
            if span_request == request and span_set == index and joined < iteration <= left:
                decode_spans[position : position + 1] = [(request, index, joined, left - 1)] * (left - 1 > joined)
                return
        raise RuntimeError(f"request {request} has no decode span that covers iteration {iteration}")

    def _remove_running(self, request: int) -> None:
        """Remove a running request and free its KV blocks.

        All its known tokens become prefill.
        """
        self.num_futile_preemptions += not self._has_more_urgent(request)
        known = self.known_tokens(request)
        computed = known - 1 if self.lookahead and request not in self.prefilling else self._scheduled_tokens(request)
        self._release_blocks(request, self.num_blocks_of(request), computed)
        for (batch, decodes), flight in zip(self.in_flight, self._flights, strict=True):
            token = self._token_of(request, batch, decodes, flight)
            if token is not None:
                flight.awaiting_results[request] = token
                self.awaiting_results[request] = self.awaiting_results.get(request, 0) + 1
        self._stop_decoding(request, awaits_token=True)
        self.requests.known_tokens[request] = known
        self._allocated_blocks.pop(request, None)
        self.prefilling.pop(request, None)
        del self.running[request]

    def _has_more_urgent(self, request: int) -> bool:
        """Whether a more urgent request is running.

        It makes progress when this one is preempted.
        """
        if self._rank is None:
            return len(self.running) > 1
        urgency = self.requests.urgency
        return any(urgency(other) < urgency(request) for other in self.running)

    def _stop_decoding(self, request: int, awaits_token: bool = False) -> None:
        """Remove a request from its decode set.

        An awaited token in flight still counts in its decode span.
        """
        for decodes in self.decode_sets():
            if request in decodes:
                has_token_in_flight = not self.lookahead and awaits_token and decodes is not self.decoding
                _, index, joined, left = decodes.remove(request)
                self._log_decode_span((request, index, joined, left + has_token_in_flight))
                return

    def _take_awaited_results(self, flight: _Flight) -> list[int]:
        """Take the results of a batch for requests preempted since its start.

        Returns:
            Requests that finish with these results.
        """
        finished = []
        for request, token in flight.awaiting_results.items():
            self.awaiting_results[request] -= 1
            if not self.awaiting_results[request]:
                del self.awaiting_results[request]
            if token == _NO_TOKEN:
                continue
            self.num_futile_preemptions = 0
            if token == _PREFILL_TOKEN:
                self.request_events.prefill_ends.append((request, self.num_finished))
            self.requests.known_tokens[request] += 1
            if self.requests.known_tokens[request] == self.requests.total_tokens[request]:
                self.waiting.remove(request)
                self._end_request(request)
                finished.append(request)
        return finished

    def _free_request(self, request: int) -> None:
        computed = self.requests.total_tokens[request] - 1
        self._release_blocks(request, self.blocks_for(computed), computed)
        del self.running[request]
        self._end_request(request)

    def _end_request(self, request: int) -> None:
        self.request_events.finishes.append((request, self.num_finished))

    def _release_blocks(self, request: int, num_blocks: int, computed_tokens: int) -> None:  # noqa: ARG002
        """Free the KV blocks of a request.

        `computed_tokens` of its tokens are computed or being computed.
        """
        self.free_blocks += num_blocks

    # -- tokens of a request --------------------------------------------------------------------

    def _scheduled_tokens(self, request: int) -> int:
        """Return tokens of a running request that are computed or being computed."""
        if request in self.prefilling:
            return self.prefilling[request]
        for decodes in self.decode_sets():
            if request in decodes:
                is_in_flight = not self.lookahead and decodes is not self.decoding and decodes is not self._step_decodes
                return decodes.context_of(request) + is_in_flight
        return self.requests.total_tokens[request] - 1

    def _num_tokens_in_flight(self, request: int) -> int:
        """Return how many tokens batches in flight produce for a running request."""
        tokens = (
            self._token_of(request, batch, decodes, flight)
            for (batch, decodes), flight in zip(self.in_flight, self._flights, strict=True)
        )
        return sum(token in (_DECODE_TOKEN, _PREFILL_TOKEN) for token in tokens)

    def _token_of(self, request: int, batch: Batch, decodes: DecodeSet | None, flight: _Flight) -> int | None:
        """Return the kind of token that a batch produces for a request.

        Returns None if the request is not in the batch, which is in flight.
        """
        members = (decodes or ()) if flight.members is None else flight.members
        if request in members:
            return _DECODE_TOKEN
        for chunk in batch.chunks:
            if chunk.request == request:
                return _PREFILL_TOKEN if self._completes(chunk) else _NO_TOKEN
        return None

    def _in_batch_order(self, requests: list[int]) -> list[int]:
        """Return requests of one batch in batch order, if their order matters."""
        return requests
