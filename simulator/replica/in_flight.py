"""Decoding requests, and the batches that compute for them.

Tokens count as computed as soon as their batch starts, as in vLLM V1. The rules that differ between engines are
when a request can be scheduled again (when its token is known, or some calls of the policy later), and what happens to
the results of a request that was preempted meanwhile (they are kept or dropped).
"""

from collections import deque
from collections.abc import Iterable

import numpy as np

from simulator.log import RequestEvents
from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.requests import RequestTable

# Kind of result that a batch in flight gives a request.
NO_TOKEN, DECODE_TOKEN, PREFILL_TOKEN = range(3)


class InFlight:
    """Decoding requests and batches in flight of a replica.

    Attributes:
        decoding: Decoding requests that can be scheduled.
        forming: Decodes of the batch that the policy is deciding; None: none so far.
        batches: Batches in flight, oldest first.
        lookahead: Calls of the policy until a decode can be scheduled again; 0: when its token is known.
    """

    __slots__ = (
        "_appends_blocks", "_block_size", "_busy", "_events", "_idle", "_keeps_results", "_num_calls", "_num_sets",
        "_requests",
        "batches", "decoding", "forming", "lookahead",
    )  # fmt: skip

    def __init__(
        self,
        requests: RequestTable,
        events: RequestEvents,
        block_size: int,
        *,
        appends_blocks: bool,
        keeps_results: bool,
        lookahead: int,
    ) -> None:
        """Start without requests.

        Args:
            requests: Table of all requests of the simulation.
            events: Events of the replica's requests.
            block_size: Tokens per KV block.
            appends_blocks: Whether a decode takes another KV block when its last one is full.
            keeps_results: Whether tokens in flight count when their request is preempted meanwhile.
            lookahead: Calls of the policy until a decode can be scheduled again; 0: when its token is known.
        """
        self.lookahead = lookahead
        self._requests = requests
        self._events = events
        self._block_size = block_size
        self._appends_blocks = appends_blocks
        self._keeps_results = keeps_results
        self._num_sets = 0
        self._idle: list[DecodeSet] = []
        # Sets that cannot be scheduled yet, and the number of the call that scheduled them.
        self._busy: deque[tuple[int, DecodeSet]] = deque()
        self._num_calls = 0
        self.decoding = self.idle_set()
        self.forming: DecodeSet | None = None
        self.batches: deque[Batch] = deque()

    # -- questions ------------------------------------------------------------------------------

    def sets(self) -> list[DecodeSet]:
        """Return the decode sets that may have members."""
        sets = [self.decoding] if self.forming is None else [self.decoding, self.forming]
        if self.lookahead:
            return [*sets, *(decodes for _, decodes in self._busy)]
        return [*sets, *(batch.decodes for batch in self.batches if batch.decodes is not None)]

    def set_of(self, request: int) -> DecodeSet | None:
        """Return the decode set of a request; None: it is in none."""
        for decodes in self.sets():
            if request in decodes:
                return decodes
        return None

    def num_tokens(self, request: int) -> int:
        """Return how many tokens the batches in flight give a running request."""
        kinds = [self._kind_of(request, batch) for batch in self.batches]
        return sum(kind in (DECODE_TOKEN, PREFILL_TOKEN) for kind in kinds)

    def context_tokens(self, request: int) -> int:
        """Return the computed tokens of a decoding request, in flight included."""
        decodes = self.set_of(request)
        return self._requests.total_tokens[request] - 1 if decodes is None else decodes.context_of(request)

    def known_tokens(self, request: int) -> int:
        """Return the known tokens of a decoding request, prompt and output."""
        return self.context_tokens(request) + 1 - self.num_tokens(request)

    def completes(self, chunk: PrefillChunk) -> bool:
        """Whether a chunk is the last one of its prefill."""
        return chunk.context_tokens + chunk.num_tokens >= self._requests.known_tokens[chunk.request]

    def _kind_of(self, request: int, batch: Batch) -> int | None:
        """Return the kind of result that a batch gives a request.

        Returns None if it is not in the batch.
        """
        if request in batch.results_of_preempted:
            return None
        members = batch.decodes if batch.scheduled is None else batch.scheduled
        if (members and request in members) or (batch.scheduled is None and request in batch.finishing):
            return DECODE_TOKEN
        for chunk in batch.chunks:
            if chunk.request == request:
                return PREFILL_TOKEN if self.completes(chunk) else NO_TOKEN
        return None

    # -- changes --------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """Begin a call of the policy.

        Decodes scheduled `lookahead` calls ago can be scheduled again.
        """
        self._num_calls += 1
        while self._busy and self._busy[0][0] <= self._num_calls - self.lookahead:
            self.decoding = self._merge(self._busy.popleft()[1], self.decoding)

    def form_all(self) -> None:
        """Move all decodes that can be scheduled to the forming batch."""
        self.forming = self.decoding if self.forming is None else self._merge(self.decoding, self.forming)
        self.decoding = self._idle.pop() if self._idle else self.idle_set()

    def form(self, request: int) -> None:
        """Move a decode to the forming batch."""
        if self.forming is None:
            self.forming = self.idle_set()
        self._move(request, self.decoding, self.forming)

    def add(self, request: int, decodes: DecodeSet) -> bool:
        """Start the decodes of a request whose prefill is complete.

        Returns:
            Whether it decodes; False: its last token came with the prefill.
        """
        context_tokens = self._requests.known_tokens[request]
        num_remaining = self._requests.total_tokens[request] - context_tokens - 1
        if num_remaining:
            decodes.add(request, context_tokens, num_remaining, self._appends_blocks)
        return num_remaining > 0

    def start(self, batch: Batch) -> None:
        """Put the forming batch in flight; its decodes count as computed."""
        decodes, self.forming = self.forming, None
        if decodes is not None and not decodes.num_requests:  # all were preempted
            self._idle.append(decodes)
            decodes = None
        batch.decodes = decodes
        if self.lookahead:
            batch.scheduled = [*(decodes or ())]
        self.batches.append(batch)
        if decodes is not None:
            batch.iteration = decodes.iteration + 1
            self.advance(batch, decodes)

    def advance(self, batch: Batch, decodes: DecodeSet) -> None:
        """Compute the decodes of a batch.

        Note those that get their last token.
        """
        if left := decodes.advance():
            batch.finishing += left

    def rest(self, decodes: DecodeSet) -> None:
        """Keep decodes from being scheduled for the next `lookahead` calls."""
        self._busy.append((self._num_calls, decodes))

    def end(self) -> Batch:
        """Take the oldest batch out of flight."""
        batch = self.batches.popleft()
        decodes = batch.decodes
        if decodes is not None and not self.lookahead:
            if self.decoding.num_requests:
                decodes = self._merge(decodes, self.decoding)
            else:
                self._idle.append(self.decoding)
            self.decoding = decodes
        return batch

    def preempt(self, request: int) -> int:
        """Remove a preempted request, and note its results in flight.

        Returns:
            Number of batches in flight that it is in.
        """
        kinds = [self._kind_of(request, batch) for batch in self.batches]
        self._leave(request)
        for batch, kind in zip(reversed(self.batches), reversed(kinds), strict=True):
            if kind is None:
                continue
            batch.results_of_preempted[request] = kind
            if request in batch.finishing:
                batch.finishing.remove(request)
            if kind == DECODE_TOKEN and not self._keeps_results:
                self._discard_token(request, batch)
        return len(kinds) - kinds.count(None)

    def fail(self, running: Iterable[int]) -> None:
        """Drop all requests and batches; tokens in flight do not count."""
        members = [(batch, batch.live_decodes()) for batch in reversed(self.batches)]
        for request in running:
            self._leave(request)
        # The latest batch first: its token is then the last one of the request's decode span.
        for batch, requests in members:
            if self._keeps_results:
                preempted = batch.results_of_preempted
                requests += [request for request, kind in preempted.items() if kind == DECODE_TOKEN]
            for request in requests:
                self._discard_token(request, batch)
        self._idle += [decodes for decodes in self.sets() if decodes is not self.decoding]
        self._busy.clear()
        self.batches.clear()

    def idle_set(self) -> DecodeSet:
        """Return an empty decode set."""
        if self._idle:
            return self._idle.pop()
        self._num_sets += 1
        return DecodeSet(self._num_sets - 1, self._block_size, self._events.decode_spans)

    def _leave(self, request: int) -> None:
        decodes = self.set_of(request)
        if decodes is not None:
            decodes.remove(request)

    def _merge(self, first: DecodeSet, second: DecodeSet) -> DecodeSet:
        small, large = (first, second) if first.num_requests < second.num_requests else (second, first)
        for request in list(small):
            self._move(request, small, large)
        self._idle.append(small)
        return large

    def _move(self, request: int, source: DecodeSet, target: DecodeSet) -> None:
        context_tokens, num_remaining = source.context_of(request), source.remaining_of(request)
        source.remove(request)
        target.add(request, context_tokens, num_remaining, self._appends_blocks)

    def _discard_token(self, request: int, batch: Batch) -> None:
        """Remove a request's token of a batch from its decode spans.

        Raises:
            RuntimeError: No decode span ends with it.
        """
        decodes = batch.decodes
        assert decodes is not None
        # A batch with a set of its own may have been repeated.
        iteration = decodes.iteration if batch.scheduled is None else batch.iteration
        spans = self._events.decode_spans
        rows = spans.rows()
        covers = (rows[:, 0] == request) & (rows[:, 1] == decodes.index) & (rows[:, 2] < iteration)
        (found,) = np.nonzero(covers & (iteration <= rows[:, 3]))
        if not len(found):
            raise RuntimeError(f"request {request} has no decode span that covers iteration {iteration}")
        rows[found[-1], 3] -= 1
        spans.replace(rows[rows[:, 3] > rows[:, 2]])
