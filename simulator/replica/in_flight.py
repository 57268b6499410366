"""Decoding requests, and the batches that compute for them.

Tokens count as computed as soon as their batch starts, as in vLLM V1. The rules that differ between engines are
when a request can be scheduled again (when its token is known, or some calls of the policy later), and what happens to
the results of a request that was preempted meanwhile (they are kept or dropped).
"""

from collections import deque
from collections.abc import Iterable, Sequence

from simulator.log import DecodeSpan, RequestEvents
from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.requests import RequestTable

# Kind of result that a batch in flight gives a request.
NO_TOKEN, DECODE_TOKEN, PREFILL_TOKEN = range(3)


class Flight:
    """A batch in flight.

    Attributes:
        batch: The batch.
        decodes: Decode set of its decodes; None: it has none.
        scheduled: Requests that decode in it, if they can be scheduled again before it ends; None: those in `decodes`.
        finishing: Requests that it gives their last token.
        preempted: Requests preempted since it started, and the kind of result that it gives them.
    """

    __slots__ = ("_iteration", "batch", "decodes", "finishing", "preempted", "scheduled")

    def __init__(self, batch: Batch, decodes: DecodeSet | None, scheduled: list[int] | None) -> None:
        self.batch = batch
        self.decodes = decodes
        self.scheduled = scheduled
        self.finishing: list[int] = []
        self.preempted: dict[int, int] = {}
        if scheduled is not None and decodes is not None:
            self._iteration = decodes.iteration + 1

    @property
    def iteration(self) -> int:
        """Iterations of its decode set, this one included."""
        return self.decodes.iteration if self.scheduled is None and self.decodes is not None else self._iteration

    def decoding(self) -> list[int]:
        """Return the requests that decode in it, without preempted ones."""
        if self.scheduled is not None:
            return [request for request in self.scheduled if request not in self.preempted]
        return [*(self.decodes or ()), *self.finishing]

    def chunks(self) -> list[PrefillChunk]:
        """Return its chunks, without those of preempted requests."""
        chunks, preempted = self.batch.chunks, self.preempted
        return [chunk for chunk in chunks if chunk.request not in preempted] if preempted else chunks


class InFlight:
    """Decoding requests and batches in flight of a replica.

    Attributes:
        decoding: Decoding requests that can be scheduled.
        forming: Decodes of the batch that the policy is deciding; None: none so far.
        flights: Batches in flight, oldest first.
        lookahead: Calls of the policy until a decode can be scheduled again; 0: when its token is known.
    """

    __slots__ = (
        "_appends_blocks", "_block_size", "_busy", "_events", "_idle", "_keeps_results", "_num_calls", "_num_sets",
        "_requests",
        "decoding", "flights", "forming", "lookahead",
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
        self.flights: deque[Flight] = deque()

    # -- questions ------------------------------------------------------------------------------

    def sets(self) -> list[DecodeSet]:
        """Return the decode sets that may have members."""
        sets = [self.decoding] if self.forming is None else [self.decoding, self.forming]
        if self.lookahead:
            return [*sets, *(decodes for _, decodes in self._busy)]
        return [*sets, *(flight.decodes for flight in self.flights if flight.decodes is not None)]

    def set_of(self, request: int) -> DecodeSet | None:
        """Return the decode set of a request; None: it is in none."""
        return next((decodes for decodes in self.sets() if request in decodes), None)

    def num_tokens(self, request: int) -> int:
        """Return how many tokens the batches in flight give a running request."""
        kinds = [self._kind_of(request, flight) for flight in self.flights]
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

    def _kind_of(self, request: int, flight: Flight) -> int | None:
        """Return the kind of result that a batch gives a request.

        Returns None if it is not in the batch.
        """
        if request in flight.preempted:
            return None
        members = flight.decodes if flight.scheduled is None else flight.scheduled
        if (members and request in members) or (flight.scheduled is None and request in flight.finishing):
            return DECODE_TOKEN
        for chunk in flight.batch.chunks:
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

    def start(self, batch: Batch) -> Flight:
        """Put the forming batch in flight; its decodes count as computed."""
        decodes, self.forming = self.forming, None
        if decodes is not None and not decodes.num_requests:  # all were preempted
            self._idle.append(decodes)
            decodes = None
        flight = Flight(batch, decodes, None if not self.lookahead else [*(decodes or ())])
        self.flights.append(flight)
        if decodes is not None and (left := decodes.advance()):
            self.finish_decodes(flight, left)
        return flight

    def finish_decodes(self, flight: Flight, spans: Sequence[DecodeSpan]) -> None:
        """Note the decodes that get their last token from a batch."""
        self._events.decode_spans += spans
        flight.finishing += [span[0] for span in spans]

    def rest(self, decodes: DecodeSet) -> None:
        """Keep decodes from being scheduled for the next `lookahead` calls."""
        self._busy.append((self._num_calls, decodes))

    def end(self) -> Flight:
        """Take the oldest batch out of flight."""
        flight = self.flights.popleft()
        decodes = flight.decodes
        if decodes is not None and not self.lookahead:
            if self.decoding.num_requests:
                decodes = self._merge(decodes, self.decoding)
            else:
                self._idle.append(self.decoding)
            self.decoding = decodes
        return flight

    def preempt(self, request: int) -> int:
        """Remove a preempted request, and note its results in flight.

        Returns:
            Number of batches in flight that it is in.
        """
        kinds = [self._kind_of(request, flight) for flight in self.flights]
        self._leave(request)
        for flight, kind in zip(reversed(self.flights), reversed(kinds), strict=True):
            if kind is None:
                continue
            flight.preempted[request] = kind
            if request in flight.finishing:
                flight.finishing.remove(request)
            if kind == DECODE_TOKEN and not self._keeps_results:
                self._discard_token(request, flight)
        return len(kinds) - kinds.count(None)

    def fail(self, running: Iterable[int]) -> None:
        """Drop all requests and batches; tokens in flight do not count."""
        members = [(flight, flight.decoding()) for flight in reversed(self.flights)]
        for request in running:
            self._leave(request)
        # The latest batch first: its token is then the last one of the request's decode span.
        for flight, requests in members:
            if self._keeps_results:
                requests += [request for request, kind in flight.preempted.items() if kind == DECODE_TOKEN]
            for request in requests:
                self._discard_token(request, flight)
        self._idle += [decodes for decodes in self.sets() if decodes is not self.decoding]
        self._busy.clear()
        self.flights.clear()

    def idle_set(self) -> DecodeSet:
        """Return an empty decode set."""
        if self._idle:
            return self._idle.pop()
        self._num_sets += 1
        return DecodeSet(self._num_sets - 1, self._block_size)

    def _leave(self, request: int) -> None:
        decodes = self.set_of(request)
        if decodes is not None:
            self._log_span(decodes.remove(request))

    def _merge(self, first: DecodeSet, second: DecodeSet) -> DecodeSet:
        small, large = (first, second) if first.num_requests < second.num_requests else (second, first)
        for request in list(small):
            self._move(request, small, large)
        self._idle.append(small)
        return large

    def _move(self, request: int, source: DecodeSet, target: DecodeSet) -> None:
        context_tokens, num_remaining = source.context_of(request), source.remaining_of(request)
        self._log_span(source.remove(request))
        target.add(request, context_tokens, num_remaining, self._appends_blocks)

    def _log_span(self, span: DecodeSpan) -> None:
        if span[3] > span[2]:
            self._events.decode_spans.append(span)

    def _discard_token(self, request: int, flight: Flight) -> None:
        """Remove a request's token of a batch from its decode spans.

        Raises:
            RuntimeError: No decode span ends with it.
        """
        assert flight.decodes is not None
        spans, index, iteration = self._events.decode_spans, flight.decodes.index, flight.iteration
        for position in reversed(range(len(spans))):
            span_request, span_set, joined, left = spans[position]
            if span_request == request and span_set == index and joined < iteration <= left:
                spans[position : position + 1] = [(request, index, joined, left - 1)] * (left - 1 > joined)
                return
        raise RuntimeError(f"request {request} has no decode span that covers iteration {iteration}")
