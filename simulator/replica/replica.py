"""One full copy of the model."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from simulator.kv_cache import KVPool
from simulator.log import RequestEvents
from simulator.replica.batch import Batch
from simulator.replica.decode_set import DecodeSet
from simulator.replica.errors import PolicyError
from simulator.replica.in_flight import NO_TOKEN, PREFILL_TOKEN, InFlight
from simulator.replica.limits import Limits
from simulator.replica.prefix_caching import PrefixCaching
from simulator.replica.queue import WaitingQueue
from simulator.replica.requests import RequestTable

_UNLIMITED = 1 << 62


class Replica:
    """One full copy of the model: its requests, KV blocks and batches.

    Together with the lengths in the request table that replicas share, it is the only state that a simulation changes.
    A policy reads it and changes it by the verbs `allocate_all`, `allocate`, `admit`, `preempt`, `ignore` and
    `reorder`, so requests and blocks are conserved under any policy. The engine calls the rest.

    Attributes:
        requests: Table of all requests of the simulation.
        limits: Limits of the policy, and rules of its engine.
        kv: KV blocks.
        block_size: Tokens per KV block.
        watermark_blocks: KV blocks that an admission should leave free.
        max_model_len: Longest sequence that is admitted, in tokens.
        waiting: Arrived requests that are not admitted, head of the queue first.
        running: Admitted, unfinished requests, in flight or not, in the engine's order.
        prefilling: Unfinished prefills, in flight or not, and how many tokens are computed or being computed.
        in_flight: Decoding requests and batches in flight.
        step: Batch that the policy is deciding.
        awaiting: Waiting requests that cannot be admitted yet, and how many results in flight they wait for.
        note: Latest note of the policy.
        has_ties: Whether requests with equal arrival times have arrived.
        last_batch_prefilled: Whether the batch started last has prefill chunks.
        request_events: Events of requests so far.
        num_finished: Number of finished batches.
        num_futile_preemptions: Preemptions, since the last token or arrival, of requests at least as urgent as all
            other running ones.
    """

    __slots__ = (
        "_caching", "_last_arrival_s", "_num_schedulable", "_prefilling", "_running", "_waiting", "awaiting",
        "block_size", "has_ties", "in_flight", "kv", "last_batch_prefilled", "limits", "max_model_len",
        "note", "num_finished", "num_futile_preemptions", "prefilling", "request_events", "requests", "running", "step",
        "waiting", "watermark_blocks",
    )  # fmt: skip

    def __init__(
        self,
        requests: RequestTable,
        kv: KVPool,
        limits: Limits,
        *,
        max_model_len: int,
        watermark_blocks: int = 0,
        num_stages: int = 1,
    ) -> None:
        """Start empty.

        Args:
            requests: Table of all requests of the simulation.
            kv: KV blocks, all free.
            limits: Limits of the policy, and rules of its engine.
            max_model_len: Longest sequence that is admitted, in tokens.
            watermark_blocks: KV blocks that an admission should leave free.
            num_stages: Pipeline stages.
        """
        self.requests = requests
        self.limits = limits
        self.kv = kv
        self.block_size = kv.block_size
        self.max_model_len = max_model_len
        self.watermark_blocks = watermark_blocks
        self._waiting = WaitingQueue(requests.rank if limits.queue_order == "priority" else None)
        self._running: dict[int, None] = {}
        self._prefilling: dict[int, int] = {}
        self.waiting = self._waiting
        self.running, self.prefilling = MappingProxyType(self._running), MappingProxyType(self._prefilling)
        self.request_events = RequestEvents()
        self.in_flight = InFlight(
            requests,
            self.request_events,
            kv.block_size,
            appends_blocks=not limits.reserves_whole_sequence,
            keeps_results=limits.keeps_preempted_results,
            lookahead=num_stages if limits.lookahead else 0,
        )
        self.step = Batch()
        self.awaiting: dict[int, int] = {}
        self.note: object = None
        self.has_ties = False
        self.last_batch_prefilled = False
        self.num_finished = 0
        self.num_futile_preemptions = 0
        self._last_arrival_s = -1.0
        self._num_schedulable = 0  # decodes that the policy has not scheduled in this step
        self._caching = PrefixCaching(kv, self.in_flight, self._running, self._prefilling)

    # -- questions that policies ask ------------------------------------------------------------

    @property
    def decoding(self) -> DecodeSet:
        """Decoding requests that can be scheduled."""
        return self.in_flight.decoding

    @property
    def free_blocks(self) -> int:
        """KV blocks that no request references; cached ones may be among them."""
        return self.kv.free_blocks

    @property
    def num_blocks(self) -> int:
        """KV blocks in total."""
        return self.kv.num_blocks

    @property
    def shares_outputs(self) -> bool:
        """Whether decodes may fill blocks that other requests have too."""
        return bool(self._caching.shared_outputs)

    @property
    def num_started(self) -> int:
        """Batches put in flight so far."""
        return self.num_finished + len(self.in_flight.batches)

    def by_arrival(self) -> list[int]:
        """Return the running requests by arrival time, ties in the engine's order."""
        return sorted(self._running, key=self.requests.engine_arrival_s.__getitem__)

    def paused_prefills(self) -> list[int]:
        """Return unfinished prefills that are not in flight, by arrival time."""
        paused, batches = [*self._prefilling], self.in_flight.batches
        if batches:
            in_flight = {chunk.request for batch in batches for chunk in batch.chunks}
            paused = [request for request in paused if request not in in_flight]
        if len(paused) > 1:
            members = set(paused)
            paused = [request for request in self.by_arrival() if request in members]
        return paused

    def blocks_for(self, num_tokens: int) -> int:
        """Return the KV blocks of the first `num_tokens` tokens of a sequence."""
        return self.kv.blocks_for(num_tokens)

    def blocks_to_admit(self, num_tokens: int) -> int:
        """Return the KV blocks needed to admit `num_tokens` known tokens.

        They are free or cached.
        """
        limits = self.limits
        if limits.reserves_whole_sequence:
            return self.blocks_for(self.max_model_len)
        if limits.max_admission_tokens is not None:
            num_tokens = min(num_tokens, limits.max_admission_tokens)
        return self.blocks_for(num_tokens) + (self.watermark_blocks if limits.watermark is None else 0)

    def num_blocks_of(self, request: int) -> int:
        """Return the number of KV blocks of a running request."""
        return self.kv.allocated(request, self.scheduled_tokens(request))

    def scheduled_tokens(self, request: int) -> int:
        """Return the computed tokens of a running request.

        Tokens in flight and those of this step count.
        """
        if request in self._prefilling:
            return self._prefilling[request]
        return self.in_flight.context_tokens(request) + self._is_forming(request)

    def known_tokens(self, request: int) -> int:
        """Return the known tokens of a request, prompt and output.

        The request is waiting or running.
        """
        if request not in self._running or request in self._prefilling:
            return self.requests.known_tokens[request]
        return self.in_flight.known_tokens(request)

    def computed_tokens(self, request: int) -> int:
        """Return the computed prefill tokens of a running request.

        Tokens in flight do not count.
        """
        if request not in self._prefilling:
            return self.requests.known_tokens[request]
        batches = self.in_flight.batches
        chunks = [chunk for batch in batches for chunk in batch.live_chunks() if chunk.request == request]
        return self._prefilling[request] - sum([chunk.num_tokens for chunk in chunks])

    # -- verbs of policies ----------------------------------------------------------------------

    def allocate_all(self, chunks: Mapping[int, int] = MappingProxyType({})) -> None:
        """Schedule all decodes that can be, and some prefill chunks.

        Args:
            chunks: Tokens to compute next, by unfinished prefill.

        Raises:
            PolicyError: There are too few free KV blocks, or a request has no such tokens.
        """
        step, kv, decodes = self.step, self.kv, self.in_flight.decoding
        if decodes.num_requests != self._num_schedulable:
            raise PolicyError("the policy changes the decode set; only allocate_all, allocate and preempt may")
        if decodes.num_requests:
            num_new_blocks = decodes.num_new_blocks
            if num_new_blocks > kv.free_blocks:
                raise PolicyError(f"the decodes need {num_new_blocks} KV blocks, and {kv.free_blocks} are free")
            kv.free_blocks -= num_new_blocks
            step.num_decodes += decodes.num_requests
            step.decode_context_tokens += decodes.context_tokens
            self.in_flight.form_all()
            self._num_schedulable = 0
        if chunks:
            for request, num_tokens in chunks.items():
                if not self._extend_prefill(request, num_tokens):
                    raise PolicyError(f"there are too few free KV blocks for {num_tokens} tokens of request {request}")
        if kv.prefix is not None:
            self._caching.cache_scheduled(chunks, all_decodes=True)

    def allocate(self, request: int, num_tokens: int = 1) -> bool:
        """Schedule the next tokens of a running request.

        Args:
            request: A decode that can be scheduled, or an unfinished prefill.
            num_tokens: Tokens to compute; 1 for a decode.

        Returns:
            Whether there were enough free KV blocks; False: nothing is changed.

        Raises:
            PolicyError: The request has no such tokens to compute.
        """
        if request in self._prefilling:
            allocated = self._extend_prefill(request, num_tokens)
        else:
            allocated = self._extend_decode(request, num_tokens)
        if allocated and self.kv.prefix is not None:
            self._caching.cache_scheduled((request,))
        return allocated

    def admit(
        self, request: int, num_tokens: int, *, cached_tokens: int = 0, reserved_tokens: int | None = None
    ) -> None:
        """Admit a waiting request, and schedule its first prefill chunk.

        Args:
            request: A waiting request.
            num_tokens: Tokens to compute.
            cached_tokens: Tokens before them that are in the KV cache already.
            reserved_tokens: Tokens for which it is given KV blocks now; None: those computed so far. A policy that
                reserves whole sequences always reserves max_model_len tokens.

        Raises:
            PolicyError: It does not wait, awaits results, has no such tokens, or needs more KV blocks than are free.
        """
        num_left = self.requests.known_tokens[request] - cached_tokens
        if request in self.awaiting:
            raise PolicyError(f"request {request} is admitted while it awaits results of a batch in flight")
        if not 0 < num_tokens <= num_left:
            raise PolicyError(f"request {request} is admitted with {num_tokens} tokens; it has {num_left} to compute")
        self._waiting.take(request)
        num_shared = 0 if self.kv.prefix is None else self.kv.acquire(request, cached_tokens)
        context_tokens = cached_tokens + num_tokens
        if self.limits.reserves_whole_sequence:
            reserved_tokens = self.max_model_len
        if not self.kv.extend(request, reserved_tokens or context_tokens):
            raise PolicyError(
                f"request {request} is admitted and needs more than the {self.free_blocks} free KV blocks"
            )
        self._running[request] = None
        self._prefilling[request] = context_tokens
        self.step.add_chunk(request, num_tokens, cached_tokens)
        batch_number = self.num_finished + len(self.in_flight.batches)
        self.request_events.admissions.add(request, batch_number, cached_tokens, num_shared, cached_tokens + num_left)
        if self.kv.prefix is not None:
            self._caching.cache_scheduled((request,))

    def preempt(self, request: int) -> None:
        """Preempt a running request.

        Its KV blocks are freed, and it waits at the head of the queue. All its known tokens become prefill. Tokens that
        it got in this step are taken back.

        Raises:
            PolicyError: It does not run.
        """
        if request not in self._running:
            raise PolicyError(f"request {request} is preempted and does not run")
        self.num_futile_preemptions += not self._has_more_urgent(request)
        known, scheduled = self.known_tokens(request), self.scheduled_tokens(request)
        is_ahead = self.in_flight.lookahead and request not in self._prefilling and not self._is_forming(request)
        self.kv.release(request, scheduled, known - 1 if is_ahead else min(scheduled, known))
        self._take_back(request)
        self._num_schedulable -= request in self.in_flight.decoding
        num_batches = self.in_flight.preempt(request)
        if num_batches and self.limits.keeps_preempted_results:
            self.awaiting[request] = num_batches
        self.requests.known_tokens.set(request, known)
        self._prefilling.pop(request, None)
        self._caching.discard(request)
        del self._running[request]
        self._waiting.put_back(request)
        self.request_events.preemptions.add(request, self.num_started)
        self.step.preempted.append(request)

    def ignore(self, request: int) -> None:
        """Refuse a waiting request that is too long.

        Raises:
            PolicyError: It does not wait.
        """
        self._waiting.take(request)
        self.request_events.ignored.append(request)
        self.step.ignored.append(request)

    def reorder(self, order: Sequence[int]) -> None:
        """Put the running requests in another order.

        Raises:
            PolicyError: The order does not have exactly the running requests.
        """
        if len(order) != len(self._running) or not self._running.keys() >= {*order}:
            raise PolicyError("the new order does not have exactly the running requests")
        self._running.clear()
        self._running.update(dict.fromkeys(order))

    # -- what the engine does -------------------------------------------------------------------

    def enqueue(self, request: int) -> bool:
        """Queue an arriving request; requests arrive in order of arrival time.

        Returns:
            Whether it waits; False: it was refused.
        """
        requests, arrival_s = self.requests, self.requests.engine_arrival_s[request]
        if self.limits.checks_length_on_arrival:
            if requests.known_tokens[request] >= self.max_model_len:
                self.request_events.ignored.append(request)
                return False
            requests.total_tokens.set(request, min(requests.total_tokens[request], self.max_model_len))
        self.num_futile_preemptions = 0
        self.has_ties |= arrival_s == self._last_arrival_s
        self._last_arrival_s = arrival_s
        self._waiting.push(request)
        return True

    def begin_step(self) -> Batch:
        """Begin a call of the policy; return the batch to form."""
        if self.in_flight.lookahead:
            self.in_flight.begin_step()
        self._num_schedulable = self.in_flight.decoding.num_requests
        self.step = step = Batch()
        return step

    def start(self) -> Batch | None:
        """End a call of the policy; put its batch in flight.

        Returns:
            The batch; None: it has no tokens.
        """
        batch, in_flight = self.step, self.in_flight
        if batch.note is not None:
            self.note = batch.note
        forming = in_flight.forming
        if batch.num_decodes != (0 if forming is None else forming.num_requests):
            raise PolicyError(
                "the policy changes the decodes of the batch; only allocate_all, allocate and preempt may"
            )
        if in_flight.decoding.num_requests != self._num_schedulable or self.waiting is not self._waiting:
            raise PolicyError("the policy changes the replica itself; only its verbs may")
        if self.kv.prefix is not None:
            self._log_evictions()
        if not (batch.num_decodes or batch.chunks):
            return None
        in_flight.start(batch)
        self.last_batch_prefilled = bool(batch.chunks)
        if in_flight.lookahead:
            decodes = in_flight.idle_set() if batch.decodes is None else batch.decodes
            for chunk in batch.chunks:
                if in_flight.completes(chunk):
                    self._start_decoding(chunk.request, decodes, batch.finishing)
            in_flight.rest(decodes)
        elif batch.repeats:
            batch.num_repeats = self._most_repeats(batch)
        return batch

    def finish(self) -> list[int]:
        """End the oldest batch in flight: advance its requests, free finished ones.

        Returns:
            Requests that emitted their last token.
        """
        in_flight = self.in_flight
        batch = in_flight.end()
        finished, has_tokens = batch.finishing, batch.decodes is not None
        for chunk in batch.live_chunks() if batch.chunks else ():
            if in_flight.completes(chunk):
                self.request_events.prefill_ends.add(chunk.request, self.num_finished)
                has_tokens = True
                if not in_flight.lookahead:
                    self._start_decoding(chunk.request, in_flight.decoding, finished)
        if has_tokens:
            self.num_futile_preemptions = 0
        caches = self.kv.prefix is not None
        for request in self._caching.in_batch_order(finished) if caches else finished:
            computed_tokens = self.requests.total_tokens[request] - 1
            self.kv.release(request, computed_tokens, computed_tokens)
            del self._running[request]
            self._end(request)
        if batch.results_of_preempted and self.limits.keeps_preempted_results:
            finished += self._take_preempted_results(batch)
        self.num_finished += 1
        if caches:
            self.kv.evict()  # for the blocks that repeats have taken
            self._caching.cache_known()
            self._log_evictions()
        return finished

    def repeat(self, batch: Batch) -> bool:
        """Repeat the batch in flight: end it and start it again.

        Each chunk continues with the same number of tokens. The repeats stop when the batch in flight gives a request
        its last token or has the last full chunk of a prefill, or when free KV blocks run short. `finish` ends that
        batch.

        Args:
            batch: The only batch in flight. Its totals and chunks become those of the new iteration.

        Returns:
            Whether it was repeated.
        """
        if batch.num_repeats == 0:
            return False
        decodes, kv = batch.decodes, self.kv
        if decodes is not None:
            if kv.free_blocks <= decodes.num_new_blocks or batch.finishing:
                return False
            kv.free_blocks -= decodes.num_new_blocks
            batch.decode_context_tokens = decodes.context_tokens
            self.in_flight.advance(batch, decodes)
        batch.num_repeats -= 1
        self.num_finished += 1
        if batch.chunks:
            self._continue_chunks(batch)
        if self._caching.shared_outputs:
            self._caching.cache_repeated(batch)
        return True

    def fail(self) -> tuple[list[int], list[int]]:
        """Drop everything: batches in flight, KV blocks, running and waiting requests.

        All known tokens of a running request become its prefill, as after a preemption. Batches in flight
        count as finished without a token.

        Returns:
            Requests that were running, by arrival, and requests that were waiting, head of the queue first.
        """
        running, known_tokens = self.by_arrival(), self.requests.known_tokens
        for request, num_tokens in [(request, self.known_tokens(request)) for request in running]:
            known_tokens.set(request, num_tokens)
        self.num_finished += len(self.in_flight.batches)
        self.in_flight.fail(running)
        self.kv.clear()
        self._caching.clear()
        for part in (self._running, self._prefilling, self.awaiting):
            part.clear()
        self.note = None
        return running, self._waiting.drop_all()

    # -- parts of the above ---------------------------------------------------------------------

    def _most_repeats(self, batch: Batch) -> int:
        """Return how often the chunks of a batch can be repeated."""
        known_tokens, most = self.requests.known_tokens, _UNLIMITED
        for chunk in batch.chunks:
            known = known_tokens[chunk.request]
            most = min(most, (known - chunk.context_tokens) // chunk.num_tokens - 1)
        return most

    def _continue_chunks(self, batch: Batch) -> None:
        """Give each prefill of a batch as many tokens again."""
        for chunk in batch.chunks:
            chunk.context_tokens += chunk.num_tokens
            batch.prefill_context_tokens += chunk.num_tokens
            self._prefilling[chunk.request] += chunk.num_tokens

    def _is_forming(self, request: int) -> bool:
        forming = self.in_flight.forming
        return forming is not None and request in forming

    def _extend_prefill(self, request: int, num_tokens: int) -> bool:
        context_tokens = self._prefilling[request]
        num_left = self.requests.known_tokens[request] - context_tokens
        if not 0 < num_tokens <= num_left:
            raise PolicyError(f"request {request} gets {num_tokens} tokens; it has {num_left} to compute")
        if not self.kv.extend(request, context_tokens + num_tokens):
            return False
        self._prefilling[request] = context_tokens + num_tokens
        self.step.add_chunk(request, num_tokens, context_tokens)
        return True

    def _extend_decode(self, request: int, num_tokens: int) -> bool:
        decodes = self.in_flight.decoding
        if request not in decodes:
            raise PolicyError(f"request {request} gets tokens, but has none to compute: it waits, or is in a batch")
        if num_tokens != 1:
            raise PolicyError(f"request {request} decodes and gets {num_tokens} tokens instead of 1")
        num_new_blocks = int(decodes.needs_block(request))
        if num_new_blocks > self.kv.free_blocks:
            return False
        self.kv.free_blocks -= num_new_blocks
        self.step.num_decodes += 1
        self.step.decode_context_tokens += decodes.context_of(request)
        self.in_flight.form(request)
        self._num_schedulable -= 1
        return True

    def _take_back(self, request: int) -> None:
        """Take back the tokens that a request got in this step."""
        self.step.remove_chunk(request)
        forming = self.in_flight.forming
        if forming is not None and request in forming:
            self.step.num_decodes -= 1
            self.step.decode_context_tokens -= forming.context_of(request)

    def _start_decoding(self, request: int, decodes: DecodeSet, finished: list[int]) -> None:
        """Start the decodes of a request whose prefill is complete.

        If its last token came with the prefill, append it to `finished` instead.
        """
        del self._prefilling[request]
        if not self.in_flight.add(request, decodes):
            finished.append(request)
            return
        known_tokens = self.requests.known_tokens[request]
        if not self.limits.reserves_whole_sequence:
            self.kv.follow_context(request, known_tokens)
        if self.kv.prefix is not None:
            self._caching.add(request, known_tokens)

    def _end(self, request: int) -> None:
        self.request_events.finishes.add(request, self.num_finished)
        if self.kv.prefix is not None:
            self._caching.discard(request)
            self.kv.prefix.forget(request)

    def _take_preempted_results(self, batch: Batch) -> list[int]:
        """Take the results of a batch for requests preempted since its start.

        Returns:
            Requests that finish with these results.
        """
        finished = []
        for request, kind in batch.results_of_preempted.items():
            self.awaiting[request] -= 1
            if not self.awaiting[request]:
                del self.awaiting[request]
            if kind == NO_TOKEN:
                continue
            self.num_futile_preemptions = 0
            if kind == PREFILL_TOKEN:
                self.request_events.prefill_ends.add(request, self.num_finished)
            self.requests.known_tokens.set(request, self.requests.known_tokens[request] + 1)
            if self.requests.known_tokens[request] == self.requests.total_tokens[request]:
                self._waiting.take(request)
                self._end(request)
                finished.append(request)
        return finished

    def _has_more_urgent(self, request: int) -> bool:
        """Whether a more urgent request is running.

        It makes progress when this one is preempted.
        """
        if self.limits.queue_order == "fcfs":
            return len(self._running) > 1
        urgency = self.requests.urgency
        most_urgent = min(self._running, key=urgency)
        return urgency(most_urgent) < urgency(request)

    def _log_evictions(self) -> None:
        if num_evicted := self.kv.pop_evicted():
            self.request_events.evictions.add(num_evicted, self.num_started)
