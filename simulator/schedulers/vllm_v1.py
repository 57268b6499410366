"""vLLM V1: a token budget that running requests use up in the order of their admission, then waiting ones."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from simulator.replica import Batch, CachingReplica, PrefillChunk, Replica
from simulator.schedulers.base import Overlap, every_decode, require_at_least

FCFS, PRIORITY = "fcfs", "priority"
_FLAGS = (
    "enable_chunked_prefill",
    "long_prefill_token_threshold_adaptive",
    "scheduler_reserve_full_isl",
    "async_scheduling",
)


@dataclass(frozen=True)
class Notes:
    """What the policy notes with a step of a decision.

    Attributes:
        last_prefill: Number of the last batch that carried prefill tokens.
        is_bound: Whether requests waited when it last looked at the queue.
        set_aside: Waiting requests that it had to pass over.
        on_hold: Whether prefills have to wait in this call.
        retried: Requests that found too few KV blocks in this call, and the tokens for which they try again.
    """

    last_prefill: int = 0
    is_bound: bool = False
    set_aside: frozenset[int] = frozenset()
    on_hold: bool = False
    retried: Mapping[int, int] = field(default_factory=dict)


_NOTHING_NOTED = Notes()


@dataclass(frozen=True)
class VLLMV1:
    """Running requests in the order of their admission, then waiting ones, up to a token budget.

    There are no phases: a request has so many known tokens, of which so many are computed. KV blocks are taken for
    each chunk, not for the whole prompt.

    Attributes:
        max_num_batched_tokens: Tokens per iteration.
        max_num_seqs: Running requests at most.
        enable_chunked_prefill: Whether a prompt may be computed in parts.
        long_prefill_token_threshold: Tokens of one request per iteration at most while there are several; 0: no limit.
        long_prefill_token_threshold_adaptive: Let that limit be at least the budget over the number of requests.
        policy: Order of the queue, and who is preempted: "fcfs" or "priority".
        scheduler_reserve_full_isl: Admit a request only if all its known tokens would fit now.
        watermark: Share of the KV blocks that an admission leaves free, unless nothing runs.
        max_num_active_seqs: Running requests up to which others are admitted; None: max_num_seqs.
        max_num_scheduled_tokens: Tokens per iteration, if less than max_num_batched_tokens; None: those.
        prefill_schedule_interval: Iterations from one with prefill tokens to the next, while requests decode.
        async_scheduling: Whether a batch is formed while the one before it runs.

    Source: vLLM 0.33.0.
    """

    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 128
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    policy: str = FCFS
    scheduler_reserve_full_isl: bool = True
    watermark: float = 0.0
    max_num_active_seqs: int | None = None
    max_num_scheduled_tokens: int | None = None
    prefill_schedule_interval: int = 1
    async_scheduling: bool = False
    appends_blocks: ClassVar[bool] = True
    budget_option: ClassVar[str] = "max_num_batched_tokens"

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("max_num_batched_tokens", "max_num_seqs", "prefill_schedule_interval"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("long_prefill_token_threshold", self.long_prefill_token_threshold, 0)
        for name in ("max_num_active_seqs", "max_num_scheduled_tokens"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        if self.policy not in (FCFS, PRIORITY):
            raise ValueError(f"policy must be {FCFS} or {PRIORITY}, got {self.policy!r}")
        if type(self.watermark) not in (int, float) or not 0 <= self.watermark < 1:
            raise ValueError(f"watermark must be a number of at least 0 and below 1, got {self.watermark!r}")
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")

    @property
    def overlap(self) -> Overlap:
        """How batches in flight overlap."""
        return Overlap(self.async_scheduling, self.policy == PRIORITY, self.watermark, self._cap)

    def profiled_tokens(self, max_model_len: int) -> int:
        """Tokens of the forward pass by which the engine finds out how much memory activations take."""
        return self.max_num_batched_tokens

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """KV blocks that have to be free, or found in the prefix cache, to admit a request of so many known tokens."""
        if not self.scheduler_reserve_full_isl and self.enable_chunked_prefill:
            num_tokens = min(num_tokens, self._budget)
        return replica.blocks_for(num_tokens)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next step of a batch: one victim, all running requests that get tokens, or who is admitted.

        With a prefix cache requests are admitted one by one, as each changes what the next one finds there.
        """
        if not isinstance(replica, CachingReplica):
            raise TypeError(f"vLLM V1 schedules a CachingReplica, not a {type(replica).__name__}")
        forming, notes, passed = replica.step, self._notes(replica), []
        if forming is not None and forming.num_tokens:
            batch = Batch()
            passed = self._admit(replica, batch, forming.num_tokens, notes)
            batch.repeats = not batch.chunks and forming.repeats
        else:
            batch = self._continue_running(replica, notes)
            if batch.preempted:
                batch.is_open = True
            elif forming is not None:
                batch.repeats = False  # nobody is admitted in a call that preempts, but may be in the next one
            elif replica.waiting:
                batch.is_open = replica.prefix is not None and self._may_admit(replica, batch)
                if not batch.is_open:
                    passed = self._admit(replica, batch, batch.num_tokens, notes)
        if self.prefill_schedule_interval > 1:
            batch.note = self._next_notes(replica, batch, passed)
            if batch.note != replica.note:
                return batch
        return batch if forming is not None or batch.decides_anything else None

    @cached_property
    def _budget(self) -> int:
        return min(self.max_num_batched_tokens, self.max_num_scheduled_tokens or self.max_num_batched_tokens)

    @cached_property
    def _cap(self) -> int:
        return self.max_num_active_seqs or self.max_num_seqs

    def _most_of(self, replica: CachingReplica) -> int:
        """Tokens of one request in this call at most, whatever the budget."""
        num_requests = len(replica.running) + len(replica.waiting)
        most = self.long_prefill_token_threshold if num_requests > 1 else 0
        if self.long_prefill_token_threshold_adaptive and num_requests:
            most = max(most, self.max_num_batched_tokens // num_requests)
        return most or replica.max_model_len

    # -- running requests -----------------------------------------------------------------------

    def _continue_running(self, replica: CachingReplica, notes: Notes) -> Batch:
        """Return the tokens of running requests; or, if there are too few KV blocks for them, whom to preempt first."""
        decodes = replica.decoding
        batch = every_decode(decodes)
        free_blocks = replica.free_blocks - decodes.num_new_blocks
        room = self._budget - decodes.num_requests
        if replica.prefilling:
            for request, num_tokens in self._chunks(replica, notes):
                if num_tokens > room and (room <= 0 or request != next(reversed(replica.running))):
                    return self._walk(replica, notes)  # this one or those behind it get less, or nothing
                num_tokens = min(num_tokens, room)
                room -= num_tokens
                free_blocks -= _add_chunk(replica, batch, request, num_tokens)
        if free_blocks < 0 or room < 0 or notes.retried:
            return self._walk(replica, notes)
        # Those who wait may find more in the prefix cache as decodes fill blocks that others know.
        changes = self.prefill_schedule_interval > 1 or (replica.waiting and replica.shares_outputs)
        batch.repeats = not batch.chunks and not changes
        return batch

    def _chunks(self, replica: CachingReplica, notes: Notes) -> Iterator[tuple[int, int]]:
        """Yield the next chunk of each unfinished prefill, as long as it may be."""
        if notes.on_hold:
            return
        most, known = self._most_of(replica), replica.requests.known_tokens
        for request, computed in replica.prefilling.items():
            left = known[request] - computed
            if left > 0:
                yield request, min(left, most)

    def _walk(self, replica: CachingReplica, notes: Notes) -> Batch:
        """Give tokens and KV blocks to one running request after the other, until one gets no block."""
        decodes, batch = replica.decoding, Batch()
        wanted = dict.fromkeys(decodes, 1) | dict(self._chunks(replica, notes))
        room, free_blocks = self._budget, replica.free_blocks
        given: dict[int, int] = {}
        for request in replica.running:
            num_tokens = notes.retried.get(request, min(wanted.get(request, 0), room))
            if num_tokens == 0:
                continue
            if request in decodes:
                num_blocks = int(decodes.needs_block(request))
                batch.num_decodes += 1
                batch.decode_context_tokens += decodes.context_of(request)
            else:
                num_blocks = _add_chunk(replica, batch, request, num_tokens)
            if num_blocks > free_blocks:
                retried = {**notes.retried, request: num_tokens}
                return self._preempt(replica, given, replica.free_blocks - free_blocks, replace(notes, retried=retried))
            free_blocks -= num_blocks
            room -= num_tokens
            given[request] = num_tokens
        batch.skipped_decodes = [request for request in decodes if request not in given]
        return batch

    def _preempt(self, replica: CachingReplica, given: Mapping[int, int], num_blocks: int, notes: Notes) -> Batch:
        """Return a batch that preempts one request.

        Args:
            replica: Where it runs.
            given: Tokens that requests have been given in this call.
            num_blocks: KV blocks that they take.
            notes: What is to be noted.
        """
        victim = next(reversed(replica.running))
        if self.policy == PRIORITY:
            victim = max(replica.running, key=replica.requests.urgency)
        batch = Batch()
        batch.preempted, batch.note = [victim], notes
        batch.blocks_before, batch.undone = num_blocks, given.get(victim, 0)
        return batch

    # -- waiting requests -----------------------------------------------------------------------

    def _may_admit(self, replica: CachingReplica, batch: Batch) -> bool:
        """Whether requests can be admitted beside the running ones, as far as the caps go; then these come first."""
        return 0 < batch.num_tokens < self._budget and len(replica.running) < self._cap

    def _admit(self, replica: CachingReplica, batch: Batch, num_tokens: int, notes: Notes) -> list[int]:
        """Add the first chunks of waiting requests, in the queue's order, to what has so many tokens already.

        With a prefix cache only that of the first one, and the batch is open if there is one.

        Returns:
            Requests that were passed over, as work of theirs is in flight from before they were preempted.
        """
        passed: list[int] = []
        num_running, room, free_blocks = len(replica.running), self._budget - num_tokens, replica.free_blocks
        if batch.num_tokens:
            free_blocks -= replica.decoding.num_new_blocks + sum(chunk.num_blocks for chunk in batch.chunks)
        for request in replica.waiting:
            if num_running >= self._cap or room <= 0:
                batch.until_arrival = False
                break
            if request in replica.awaiting_results:
                passed.append(request)
                continue
            spared = replica.watermark_blocks if num_running else 0
            chunk = self._first_chunk(replica, request, room, free_blocks - spared, notes)
            if chunk is None:
                batch.until_arrival = self.policy == PRIORITY
                break
            batch.add_chunk(chunk.request, chunk.num_tokens, chunk.context_tokens, chunk.num_blocks)
            if replica.prefix is not None:
                batch.is_open = True
                break
            num_running += 1
            room -= chunk.num_tokens
            free_blocks -= chunk.num_blocks
        batch.repeats = batch.repeats and not batch.chunks
        return passed

    def _first_chunk(
        self, replica: CachingReplica, request: int, room: int, free_blocks: int, notes: Notes
    ) -> PrefillChunk | None:
        """Return the first chunk of a waiting request; None: it is not admitted, and neither is anybody behind it.

        Args:
            replica: Where it waits.
            request: The request.
            room: Tokens that are left of the budget, at least 1.
            free_blocks: KV blocks that it may take.
            notes: Whether prefills have to wait.
        """
        known, block_size = replica.requests.known_tokens[request], replica.block_size
        num_found = num_evictable = 0
        if replica.prefix is not None:
            num_found, num_evictable = replica.prefix.match(request, (known - 1) // block_size)
        computed = num_found * block_size
        num_tokens = min(known - computed, self._most_of(replica))
        if notes.on_hold and known - computed > 1:
            return None
        if num_tokens > room and not self.enable_chunked_prefill:
            return None
        num_tokens = min(num_tokens, room)
        num_blocks = replica.blocks_for(computed + num_tokens) - num_found
        needed = replica.blocks_for(known) - num_found if self.scheduler_reserve_full_isl else num_blocks
        if max(needed, num_blocks) + num_evictable > free_blocks:
            return None
        return PrefillChunk(request, num_tokens, computed, num_blocks)

    # -- prefills at intervals ------------------------------------------------------------------

    def _notes(self, replica: CachingReplica) -> Notes:
        """Return what was noted, and whether prefills have to wait in this call."""
        interval = self.prefill_schedule_interval
        notes = replica.note if isinstance(replica.note, Notes) else Notes(-interval)
        if replica.step is not None:
            return notes
        if interval == 1:
            return _NOTHING_NOTED
        known = replica.requests.known_tokens
        num_prefills = sum(computed < known[request] for request, computed in replica.prefilling.items())
        is_soon = replica.num_started + 1 - notes.last_prefill < interval
        on_hold = is_soon and len(replica.running) > num_prefills and not notes.is_bound
        return replace(notes, on_hold=on_hold, retried={})

    def _next_notes(self, replica: CachingReplica, batch: Batch, passed: list[int]) -> Notes:
        """Return what is to be noted of prefills with a step of a decision.

        Args:
            replica: Where it is decided.
            batch: The step.
            passed: Requests that were passed over in the queue.
        """
        notes = batch.note if isinstance(batch.note, Notes) else self._notes(replica)
        known, prefilling = replica.requests.known_tokens, replica.prefilling
        carried = any(
            chunk.request in prefilling or chunk.context_tokens < known[chunk.request] - 1 for chunk in batch.chunks
        )
        carried |= batch.undone > 0 and batch.preempted[0] in prefilling
        admitted = {chunk.request for chunk in batch.chunks if chunk.request not in prefilling}
        set_aside = (notes.set_aside | {*passed}) - admitted
        if set_aside:  # some may have ended with what came back
            set_aside = frozenset(request for request in set_aside if request in replica.waiting)
        is_bound, forming = notes.is_bound, replica.step
        if not batch.is_open and not notes.on_hold and not (forming is not None and forming.preempted):
            is_bound = len(replica.waiting) > len(admitted) + len(set_aside)
        last_prefill = replica.num_started + 1 if carried else notes.last_prefill
        return replace(notes, last_prefill=last_prefill, is_bound=is_bound, set_aside=set_aside)


def _add_chunk(replica: CachingReplica, batch: Batch, request: int, num_tokens: int) -> int:
    """Add the next chunk of an unfinished prefill to a batch, and return how many KV blocks it takes."""
    computed = replica.prefilling[request]
    num_blocks = replica.blocks_for(computed + num_tokens) - replica.blocks_held(request)
    batch.add_chunk(request, num_tokens, computed, num_blocks)
    return num_blocks
