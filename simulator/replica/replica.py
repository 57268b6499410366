"""One full copy of the model: queue, running requests and KV blocks."""

from collections import deque
from collections.abc import Collection, Iterator
from itertools import count

from simulator.log import DecodeSpan, Members, RequestEvents
from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.requests import RequestTable


class Replica:
    """Queue, running requests and KV blocks of one copy of the model.

    Together with the lengths in the request table that replicas share, it is the only state that a simulation changes.

    Schedulers read it. Only `enqueue`, `start`, `repeat`, `finish` and `fail` change it, so requests and blocks are
    conserved under any policy.

    Attributes:
        requests: Table of all requests of the simulation.
        num_blocks: KV blocks in total.
        free_blocks: KV blocks that no request references.
        block_size: Tokens per KV block.
        watermark_blocks: KV blocks that an admission should leave free, if the policy has a watermark.
        max_model_len: Longest sequence that is admitted, in tokens.
        waiting: Arrived requests that are not admitted, head of the queue first.
        running: Admitted, unfinished requests, in flight or not, in the engine's order.
        prefilling: Running requests with an unfinished prefill or one in flight, and how many of
            their tokens are computed or being computed.
        decoding: Decoding requests that are not in flight.
        in_flight: Batches in the pipeline and the requests that decode in each, oldest first.
        has_ties: Whether requests with equal arrival times have arrived.
        last_batch_prefilled: Whether the batch started last has prefill chunks.
        request_events: Events of requests so far.
        num_finished: Number of finished batches.
        num_futile_preemptions: Preemptions, since the last token or arrival, of requests at least as urgent as all
            other running ones; 0 in a replica that does not count them.
    """

    __slots__ = (
        "_allocated_blocks",
        "_appends_blocks",
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
            requests: Table of all requests of the simulation.
            num_blocks: KV blocks in total.
            block_size: Tokens per KV block.
            max_model_len: Longest sequence that is admitted, in tokens.
            watermark_blocks: KV blocks that an admission should leave free.
            num_stages: Pipeline stages, and so the maximum number of batches in flight.
            appends_blocks: Whether a decode is allocated another KV block when its last one is full. False:
                all its blocks are allocated at admission.
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
        # Running requests whose number of blocks does not follow from their context.
        self._allocated_blocks: dict[int, int] = {}
        # Chunks in flight whose request was preempted: their results are discarded.
        self._stale: list[PrefillChunk] = []
        # One set per batch in flight and one for the requests that are not in flight.
        self.decoding, *self._idle_sets = [DecodeSet(index, block_size) for index in range(num_stages + 1)]

    # -- questions that policies ask ------------------------------------------------------------

    def by_arrival(self) -> list[int]:
        """Return the running requests by arrival time, ties in the engine's order."""
        return sorted(self.running, key=self.requests.engine_arrival_s.__getitem__)

    def paused_prefills(self) -> Collection[int]:
        """Return unfinished prefills that are not in flight, by arrival time."""
        paused: Collection[int] = self.prefilling
        if self.in_flight:
            in_flight = {chunk.request for batch, _ in self.in_flight for chunk in batch.chunks}
            paused = [request for request in paused if request not in in_flight]
        if len(paused) > 1:
            members = set(paused)
            paused = [request for request in self.by_arrival() if request in members]
        return paused

    def blocks_for(self, num_tokens: int) -> int:
        """Return the KV blocks that `num_tokens` tokens need."""
        return -(-num_tokens // self.block_size)

    def num_blocks_of(self, request: int) -> int:
        """Return the number of KV blocks of a running request."""
        num_blocks = self._allocated_blocks.get(request)
        if num_blocks is not None:
            return num_blocks
        if request in self.decoding:
            return self.blocks_for(self.decoding.context_of(request))
        return self.blocks_for(self._decode_set_in_flight(request).context_of(request) + 1)

    def known_tokens(self, request: int) -> int:
        """Return how many tokens of a request exist, prompt and output.

        The request is waiting or running.
        """
        if request not in self.running or request in self.prefilling:
            return self.requests.known_tokens[request]
        decodes = self.decoding if request in self.decoding else self._decode_set_in_flight(request)
        return decodes.context_of(request) + 1

    def computed_tokens(self, request: int) -> int:
        """Return the computed prefill tokens of a running request.

        Tokens in flight do not count.
        """
        if request not in self.prefilling:
            return self.requests.known_tokens[request]
        return self.prefilling[request] - sum(chunk.num_tokens for chunk in self._chunks_in_flight(request))

    @property
    def cached_tokens(self) -> int:
        """Tokens of running requests with keys and values in the KV cache."""
        in_flight = [decodes.context_tokens for _, decodes in self.in_flight if decodes is not None]
        return self.decoding.context_tokens + sum(in_flight) + sum(map(self.computed_tokens, self.prefilling))

    def decode_sets(self) -> list[DecodeSet]:
        """Return the decode sets that may have members."""
        return [self.decoding, *(decodes for _, decodes in self.in_flight if decodes is not None)]

    def decode_spans(self) -> list[DecodeSpan]:
        """Return all decode spans so far, open ones included."""
        spans = [span for decodes in self.decode_sets() for span in decodes.open_decode_spans()]
        return self.request_events.decode_spans + [span for span in spans if span[3] > span[2]]

    def members(self) -> Members:
        """Return the members of the batch started last.

        Each is (request, tokens, whether they are prompt tokens), in batch order: prefills in the order added, then
        decodes by arrival.
        """
        batch, decodes = self.in_flight[-1]
        rows = [(chunk.request, chunk.num_tokens, True) for chunk in batch.chunks]
        if decodes is not None:
            rows += [(request, 1, False) for request in self.by_arrival() if request in decodes]
        return rows

    # -- changes --------------------------------------------------------------------------------

    def enqueue(self, request: int) -> bool:
        """Append an arriving request to the queue.

        Requests arrive in order of arrival time.

        Returns:
            Whether it waits; False: it was refused.
        """
        arrival_s = self.requests.engine_arrival_s[request]
        if arrival_s == self._last_arrival_s:
            self.has_ties = True
        self._last_arrival_s = arrival_s
        self.waiting.append(request)
        return True

    def start(self, batch: Batch) -> Batch | None:
        """Carry out a decision: preempt, allocate KV blocks, start a batch.

        Returns:
            The batch now in flight; None: it has no tokens, or the decision has further steps.

        Raises:
            RuntimeError: The decision does not fit the replica's state, which is invalid afterwards.
        """
        if batch.preempted or batch.ignored or batch.running_order is not None:
            self._preempt_and_ignore(batch)
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
                self._allocated_blocks[request] = self._allocated_blocks.get(request, 0) + chunk.num_blocks
        if self.free_blocks < 0:
            raise RuntimeError(f"the batch needs {-self.free_blocks} more KV blocks than are free")
        self.in_flight.append((batch, decodes))
        self.last_batch_prefilled = bool(batch.chunks)
        return batch

    def finish(self) -> list[int]:
        """End the oldest batch in flight: advance its requests, free finished ones.

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
            self._free_request(request)
        self.num_finished += 1
        return finished

    def repeat(self, batch: Batch) -> Iterator[int]:
        """Repeat the batch in flight: end it and start it again.

        Each chunk continues with the same number of tokens. The repeats stop when the batch in flight gives a request
        its last token or has the last full chunk of a prefill, or when free KV blocks run short. `finish` ends that
        batch.

        Args:
            batch: The only batch in flight. Its totals and chunks become those of each new iteration.

        Yields:
            Free KV blocks in the new iteration.
        """
        decodes = self.in_flight[0][1]
        chunks = batch.chunks
        known_tokens = self.requests.known_tokens
        left = [(known_tokens[chunk.request] - chunk.context_tokens) // chunk.num_tokens for chunk in chunks]
        for _ in range(min(left) - 1) if chunks else count():
            if decodes is not None:
                num_new_blocks = decodes.try_advance(self.free_blocks)
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
        """Drop everything: batches in flight, KV blocks, running and waiting requests.

        All known tokens of a running request become its prefill, as after a preemption. Batches in flight
        count as finished without a token.

        Returns:
            Requests that were running, by arrival, and requests that were waiting, head of the queue first.

        Raises:
            RuntimeError: KV blocks are missing afterwards.
        """
        running, waiting = self.by_arrival(), list(self.waiting)
        for request in running:
            self._remove_running(request)
        self.waiting.clear()
        self._stale.clear()
        for _, decodes in self.in_flight:
            if decodes is not None:
                decodes.advance()  # it has no members; its iteration count still includes the batch
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
            del self._allocated_blocks[request]
        self.decoding.add(request, context_tokens, num_remaining, self._appends_blocks)

    def _free_request(self, request: int) -> None:
        num_blocks = self._allocated_blocks.pop(request, None)
        if num_blocks is None:
            num_blocks = self.blocks_for(self.requests.total_tokens[request] - 1)
        self.free_blocks += num_blocks
        del self.running[request]
        self.request_events.finishes.append((request, self.num_finished))

    def _skip_decodes(self, batch: Batch, decodes: DecodeSet) -> None:
        for request in batch.skipped_decodes:
            self._move(request, decodes, self.decoding)

    def _merge(self, first: DecodeSet, second: DecodeSet) -> DecodeSet:
        small, large = (first, second) if first.num_requests < second.num_requests else (second, first)
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

    def _preempt_and_ignore(self, batch: Batch) -> None:
        if batch.running_order is not None:
            self.running = dict.fromkeys(batch.running_order)
        for request in batch.preempted:
            self._preempt(request)
        for request in batch.ignored:
            self.waiting.remove(request)
            self.request_events.ignored.append(request)

    def _preempt(self, request: int) -> None:
        self._remove_running(request)
        self.waiting.appendleft(request)
        self.request_events.preemptions.append((request, self._next_batch))

    def _remove_running(self, request: int) -> None:
        """Remove a running request and free its KV blocks.

        All its known tokens become prefill.
        """
        self.free_blocks += self.num_blocks_of(request)
        self._allocated_blocks.pop(request, None)
        if request in self.prefilling:
            del self.prefilling[request]
            self._stale += self._chunks_in_flight(request)
        else:
            self.requests.known_tokens[request] = self.known_tokens(request)
            decodes = self.decoding if request in self.decoding else self._decode_set_in_flight(request)
            self._log_decode_span(decodes.remove(request))
        del self.running[request]

    def _chunks_in_flight(self, request: int) -> list[PrefillChunk]:
        chunks = [chunk for batch, _ in self.in_flight for chunk in batch.chunks if chunk.request == request]
        return [chunk for chunk in chunks if not any(chunk is stale for stale in self._stale)]

    def _decode_set_in_flight(self, request: int) -> DecodeSet:
        for _, decodes in self.in_flight:
            if decodes is not None and request in decodes:
                return decodes
        raise RuntimeError(f"request {request} does not decode")
