"""One full copy of the model: its queues, running requests and KV blocks."""

from collections import deque
from collections.abc import Collection, Iterator
from itertools import count

from simulator.log import DecodeSpan, Members, RequestEvents
from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.requests import RequestTable


class Replica:
    """Queues, running requests and KV blocks of one copy of the model.

    With the lengths in the request table that it shares, it is the only state that changes in a run.

    Schedulers read it; `enqueue`, `start`, `finish` and `fail` alone change it, so that conservation of
    requests and blocks holds for any policy.

    Attributes:
        requests: Table of all requests of the run.
        num_blocks: KV blocks in all.
        free_blocks: KV blocks that nobody holds.
        block_size: Tokens per KV block.
        watermark_blocks: Blocks that an admission should leave free, if the policy has a watermark.
        max_model_len: Longest sequence that is admitted, tokens.
        waiting: Arrived requests that are not admitted, head of the queue first.
        running: Admitted, unfinished requests, in flight or not, in the engine's order.
        prefilling: Running requests with an unfinished prefill or one in flight, and how many of
            their tokens are computed or being computed.
        decoding: Decode-phase requests that are not in flight.
        in_flight: Batches in the pipeline and the requests that decode in each, oldest first.
        has_ties: Whether requests with equal arrival times have arrived.
        last_batch_prefilled: Whether the last batch that was put in flight had prefill chunks.
        request_events: What happened to requests so far.
        num_finished: Batches finished.
        num_futile_preemptions: Preemptions, since the last token or arrival, of requests at least as urgent as all
            others that run; 0 in a replica that does not count them.
    """

    __slots__ = (
        "_appends_blocks",
        "_held_blocks",
        "_idle_sets",
        "_last_arrival_s",
        "_stale",
        "block_size",
        "decoding",
        "free_blocks",
        "has_ties",
        "in_flight",
        "last_batch_prefilled",
        "max_model_len",
        "num_blocks",
        "num_finished",
        "num_futile_preemptions",
        "prefilling",
        "request_events",
        "requests",
        "running",
        "waiting",
        "watermark_blocks",
    )

    def __init__(
        self,
        requests: RequestTable,
        *,
        num_blocks: int,
        block_size: int,
        max_model_len: int,
        watermark_blocks: int = 0,
        num_stages: int = 1,
        appends_blocks: bool = True,
    ) -> None:
        """Start empty.

        Args:
            requests: Table of all requests of the run.
            num_blocks: KV blocks in all.
            block_size: Tokens per KV block.
            max_model_len: Longest sequence that is admitted, tokens.
            watermark_blocks: Blocks that an admission should leave free.
            num_stages: Pipeline stages, so the most batches in flight.
            appends_blocks: Whether a decode takes another KV block when its last one is full. False:
                what it got at admission is all it ever has.
        """
        self.requests = requests
        self.num_blocks = num_blocks
        self.free_blocks = num_blocks
        self.block_size = block_size
        self.max_model_len = max_model_len
        self.watermark_blocks = watermark_blocks
        self.waiting: deque[int] = deque()
        self.running: dict[int, None] = {}
        self.prefilling: dict[int, int] = {}
        self.in_flight: deque[tuple[Batch, DecodeSet | None]] = deque()
        self.has_ties = False
        self._last_arrival_s = -1.0
        self.last_batch_prefilled = False
        self.request_events = RequestEvents()
        self.num_finished = 0
        self.num_futile_preemptions = 0
        self._appends_blocks = appends_blocks
        # Blocks of running requests whose number does not follow from their context.
        self._held_blocks: dict[int, int] = {}
        # Chunks in flight whose request was preempted: their result is dropped.
        self._stale: list[PrefillChunk] = []
        # One set per batch in flight and one for the requests between iterations.
        self.decoding, *self._idle_sets = [DecodeSet(index, block_size) for index in range(num_stages + 1)]

    # -- questions that policies ask ------------------------------------------------------------

    def by_arrival(self) -> list[int]:
        """Running requests by arrival time; those that arrived together in the engine's order."""
        return sorted(self.running, key=self.requests.arrival_s.__getitem__)

    def paused_prefills(self) -> Collection[int]:
        """Running requests with an unfinished prefill that are not in flight, by arrival time."""
        paused: Collection[int] = self.prefilling
        if self.in_flight:
            flying = {chunk.request for batch, _ in self.in_flight for chunk in batch.chunks}
            paused = [request for request in paused if request not in flying]
        if len(paused) > 1:
            members = set(paused)
            paused = [request for request in self.by_arrival() if request in members]
        return paused

    def blocks_for(self, num_tokens: int) -> int:
        """KV blocks that hold `num_tokens` tokens."""
        return -(-num_tokens // self.block_size)

    def blocks_held(self, request: int) -> int:
        """KV blocks that a running request holds."""
        held = self._held_blocks.get(request)
        if held is not None:
            return held
        if request in self.decoding:
            return self.blocks_for(self.decoding.context_of(request))
        return self.blocks_for(self._flight_of(request).context_of(request) + 1)

    def known_tokens(self, request: int) -> int:
        """Prompt and output tokens of a waiting or running request that exist so far."""
        if request not in self.running or request in self.prefilling:
            return self.requests.known_tokens[request]
        decodes = self.decoding if request in self.decoding else self._flight_of(request)
        return decodes.context_of(request) + 1

    def computed_tokens(self, request: int) -> int:
        """Prefill tokens of a running request whose computation has ended."""
        if request not in self.prefilling:
            return self.requests.known_tokens[request]
        return self.prefilling[request] - sum(chunk.num_tokens for chunk in self._chunks_in_flight(request))

    @property
    def cached_tokens(self) -> int:
        """Tokens of running requests whose keys and values are in the KV cache."""
        flying = [decodes.context_tokens for _, decodes in self.in_flight if decodes is not None]
        return self.decoding.context_tokens + sum(flying) + sum(map(self.computed_tokens, self.prefilling))

    def decode_sets(self) -> list[DecodeSet]:
        """Sets that decoding requests may be in."""
        return [self.decoding, *(decodes for _, decodes in self.in_flight if decodes is not None)]

    def decode_spans(self) -> list[DecodeSpan]:
        """Stays of requests in decode sets, those that have not ended included."""
        stays = [stay for decodes in self.decode_sets() for stay in decodes.open_decode_spans()]
        return self.request_events.decode_spans + [stay for stay in stays if stay[3] > stay[2]]

    def members(self) -> Members:
        """Request, tokens and whether they are prompt tokens of each member of the batch that was started last.

        In the batch's own order: prefills in the order added, then decodes by arrival.
        """
        batch, decodes = self.in_flight[-1]
        rows = [(chunk.request, chunk.num_tokens, True) for chunk in batch.chunks]
        if decodes is not None:
            rows += [(request, 1, False) for request in self.by_arrival() if request in decodes]
        return rows

    # -- changes --------------------------------------------------------------------------------

    def enqueue(self, request: int) -> bool:
        """Put an arriving request at the back of the queue. Requests arrive in order of their arrival time.

        Returns:
            Whether it is there; if not, it was refused.
        """
        arrival_s = self.requests.arrival_s[request]
        if arrival_s == self._last_arrival_s:
            self.has_ties = True
        self._last_arrival_s = arrival_s
        self.waiting.append(request)
        return True

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a decision: evict, take KV blocks, and put the batch in flight if it has tokens.

        Returns:
            The batch that is now in flight; None: there is none, or the decision goes on.

        Raises:
            RuntimeError: The decision does not fit the replica's state; nothing can be simulated from it.
        """
        if batch.preempted or batch.ignored or batch.running_order is not None:
            self._make_room(batch)
        decodes: DecodeSet | None = None
        if batch.num_decodes:
            decodes = self.decoding
            self.decoding = self._idle_sets.pop()
            if batch.skipped_decodes:
                self._skip_decodes(batch, decodes)
            if decodes.num_requests != batch.num_decodes:
                raise RuntimeError(f"the batch decodes {batch.num_decodes} of {decodes.num_requests} requests")
            self.free_blocks -= decodes.num_new_blocks
        elif not batch.chunks:
            return None
        for chunk in batch.chunks:
            request = chunk.request
            if request not in self.prefilling:
                self._admit(chunk)
            self.prefilling[request] = chunk.context_tokens + chunk.num_tokens
            if chunk.num_blocks:
                self.free_blocks -= chunk.num_blocks
                self._held_blocks[request] = self._held_blocks.get(request, 0) + chunk.num_blocks
        if self.free_blocks < 0:
            raise RuntimeError(f"the batch takes {-self.free_blocks} KV blocks more than there are")
        self.in_flight.append((batch, decodes))
        self.last_batch_prefilled = bool(batch.chunks)
        return batch

    def finish(self) -> list[int]:
        """End the oldest batch in flight: advance its requests, and free those that are done.

        Returns:
            Requests that emitted their last token.
        """
        batch, decodes = self.in_flight.popleft()
        finished: list[int] = []
        if decodes is not None:
            left = decodes.advance()
            if left:
                self.request_events.decode_spans += left
                finished += [decode_span[0] for decode_span in left]
            if self.decoding.num_requests:
                decodes = self._merge(decodes, self.decoding)
            else:
                self._idle_sets.append(self.decoding)
            self.decoding = decodes
        known_tokens = self.requests.known_tokens
        for chunk in batch.chunks:
            if self._stale and any(chunk is stale for stale in self._stale):
                self._stale = [stale for stale in self._stale if stale is not chunk]
            elif chunk.context_tokens + chunk.num_tokens >= known_tokens[chunk.request]:
                self._end_prefill(chunk.request, finished)
        for request in finished:
            self._release(request)
        self.num_finished += 1
        return finished

    def repeat(self, batch: Batch) -> Iterator[int]:
        """End the batch in flight and start the same decision again, each chunk going on by as many tokens.

        It ends when a request emits its last token, a prefill ends or has less than a chunk to go, or free
        KV blocks run short; the batch that is then in flight is to be finished.

        Args:
            batch: The batch in flight, the only one. It becomes that of each new iteration.

        Yields:
            KV blocks that nobody holds in the new iteration.
        """
        decodes = self.in_flight[0][1]
        chunks = batch.chunks
        known_tokens = self.requests.known_tokens
        left = [(known_tokens[chunk.request] - chunk.context_tokens) // chunk.num_tokens for chunk in chunks]
        for _ in range(min(left) - 1) if chunks else count():
            if decodes is not None:
                num_new_blocks = decodes.advance_all(self.free_blocks)
                if num_new_blocks is None:
                    return
                self.free_blocks -= num_new_blocks
                batch.decode_context_tokens = decodes.context_tokens
            for chunk in chunks:
                chunk.context_tokens += chunk.num_tokens
                batch.prefill_context_tokens += chunk.num_tokens
                self.prefilling[chunk.request] += chunk.num_tokens
            self.num_finished += 1
            yield self.free_blocks

    def fail(self) -> tuple[list[int], list[int]]:
        """Lose everything: batches in flight, KV blocks, running and waiting requests.

        The prefill of a running request becomes what is known of it, as with a preemption. Batches in flight
        count as finished without a token.

        Returns:
            Requests that ran, by arrival, and requests that waited, head of the queue first.

        Raises:
            RuntimeError: KV blocks are missing afterwards.
        """
        running, waiting = self.by_arrival(), list(self.waiting)
        for request in running:
            self._evict(request)
        self.waiting.clear()
        self._stale.clear()
        for _, decodes in self.in_flight:
            if decodes is not None:
                decodes.advance()  # nobody is left in it; its batches are counted on
                self._idle_sets.append(decodes)
        self.num_finished += len(self.in_flight)
        self.in_flight.clear()
        if self.free_blocks != self.num_blocks:
            raise RuntimeError(f"{self.num_blocks - self.free_blocks} KV blocks are missing after a failure")
        return running, waiting

    @property
    def _next_batch(self) -> int:
        return self.num_finished + len(self.in_flight)

    def _admit(self, chunk: PrefillChunk, num_shared: int = 0) -> None:
        request, waiting = chunk.request, self.waiting
        if waiting and waiting[0] == request:
            waiting.popleft()
        elif request in waiting:
            waiting.remove(request)
        else:
            raise RuntimeError(f"request {request} is in a prefill chunk but neither waiting nor prefilling")
        self.running[request] = None
        self.request_events.admissions.append((request, self._next_batch, chunk.context_tokens, num_shared))

    def _end_prefill(self, request: int, finished: list[int]) -> None:
        del self.prefilling[request]
        self.request_events.prefill_ends.append((request, self.num_finished))
        context_tokens = self.requests.known_tokens[request]
        num_remaining = self.requests.total_tokens[request] - context_tokens - 1
        if num_remaining == 0:
            finished.append(request)
            return
        if self._appends_blocks:
            del self._held_blocks[request]
        self.decoding.add(request, context_tokens, num_remaining, self._appends_blocks)

    def _release(self, request: int) -> None:
        held = self._held_blocks.pop(request, None)
        if held is None:
            held = self.blocks_for(self.requests.total_tokens[request] - 1)
        self.free_blocks += held
        del self.running[request]
        self.request_events.finishes.append((request, self.num_finished))

    def _skip_decodes(self, batch: Batch, decodes: DecodeSet) -> None:
        for request in batch.skipped_decodes:
            self._move(request, decodes, self.decoding)

    def _merge(self, one: DecodeSet, other: DecodeSet) -> DecodeSet:
        small, large = (one, other) if one.num_requests < other.num_requests else (other, one)
        for request in list(small):
            self._move(request, small, large)
        self._idle_sets.append(small)
        return large

    def _move(self, request: int, source: DecodeSet, target: DecodeSet) -> None:
        context_tokens, num_remaining = source.context_of(request), source.remaining_of(request)
        self._log_decode_span(source.remove(request))
        target.add(request, context_tokens, num_remaining, self._appends_blocks)

    def _log_decode_span(self, decode_span: DecodeSpan) -> None:
        _, _, joined, left = decode_span
        if left > joined:
            self.request_events.decode_spans.append(decode_span)

    def _make_room(self, batch: Batch) -> None:
        if batch.running_order is not None:
            self.running = dict.fromkeys(batch.running_order)
        for request in batch.preempted:
            self._preempt(request)
        for request in batch.ignored:
            self.waiting.remove(request)
            self.request_events.ignored.append(request)

    def _preempt(self, request: int) -> None:
        self._evict(request)
        self.waiting.appendleft(request)
        self.request_events.preemptions.append((request, self._next_batch))

    def _evict(self, request: int) -> None:
        """Take a running request's KV blocks and what was computed for it; its tokens are prefill from now on."""
        self.free_blocks += self.blocks_held(request)
        self._held_blocks.pop(request, None)
        if request in self.prefilling:
            del self.prefilling[request]
            self._stale += self._chunks_in_flight(request)
        else:
            self.requests.known_tokens[request] = self.known_tokens(request)
            decodes = self.decoding if request in self.decoding else self._flight_of(request)
            self._log_decode_span(decodes.remove(request))
        del self.running[request]

    def _chunks_in_flight(self, request: int) -> list[PrefillChunk]:
        chunks = [chunk for batch, _ in self.in_flight for chunk in batch.chunks if chunk.request == request]
        return [chunk for chunk in chunks if not any(chunk is stale for stale in self._stale)]

    def _flight_of(self, request: int) -> DecodeSet:
        for _, decodes in self.in_flight:
            if decodes is not None and request in decodes:
                return decodes
        raise RuntimeError(f"request {request} does not decode")
