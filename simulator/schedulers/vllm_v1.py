"""vLLM V1: one token budget for running requests, then for waiting ones."""

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
class PolicyState:
    """State of the policy, kept in the replica between steps and calls.

    Attributes:
        last_prefill_batch: Number of the last batch that carried prefill tokens.
        has_backlog: Whether requests, other than skipped ones, were left waiting after the last look at the queue.
        skipped_waiting: Waiting requests that admission had to skip.
        on_hold: Whether prefills have to wait in this call.
        retries: Requests that got too few KV blocks in this call, and the tokens with which they try again.
    """

    last_prefill_batch: int = 0
    has_backlog: bool = False
    skipped_waiting: frozenset[int] = frozenset()
    on_hold: bool = False
    retries: Mapping[int, int] = field(default_factory=dict)


_INITIAL_STATE = PolicyState()


@dataclass(frozen=True)
class VLLMV1:
    """Running requests in admission order, then waiting ones, within a token budget.

    There are no prefill and decode phases: a request has known tokens, and some of them are computed. KV blocks are
    allocated for each chunk, not for the whole prompt.

    Attributes:
        max_num_batched_tokens: Tokens per iteration.
        max_num_seqs: Maximum running requests.
        enable_chunked_prefill: Whether a prompt may be computed in chunks.
        long_prefill_token_threshold: Maximum tokens of one request per iteration while there are several; 0: no limit.
        long_prefill_token_threshold_adaptive: Whether to raise that limit to the budget over the number of requests.
        policy: Order of admission and choice of preemption victims: "fcfs" or "priority".
        scheduler_reserve_full_isl: Whether to admit a request only if all its known tokens would fit now.
        watermark: Share of the KV blocks that an admission leaves free, unless no request is running.
        max_num_active_seqs: Maximum running requests, in place of max_num_seqs; None: max_num_seqs.
        max_num_scheduled_tokens: Tokens per iteration, if below max_num_batched_tokens; None: max_num_batched_tokens.
        prefill_schedule_interval: Iterations from one with prefill tokens to the next, while requests decode.
        async_scheduling: Whether a batch is scheduled while the one before it runs.

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
        return Overlap(self.async_scheduling, self.policy == PRIORITY, self.watermark, self._max_running)

    def profiled_tokens(self, max_model_len: int) -> int:
        """Return the number of tokens in the engine's memory profiling run."""
        return self.max_num_batched_tokens

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """Return free or cached KV blocks needed to admit `num_tokens` known tokens."""
        if not self.scheduler_reserve_full_isl and self.enable_chunked_prefill:
            num_tokens = min(num_tokens, self._budget)
        return replica.blocks_for(num_tokens)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next step of a batch.

        A step is a preemption, tokens of running requests, or admissions. With a prefix cache each step admits one
        request, because each admission changes what the next one can hit.
        """
        if not isinstance(replica, CachingReplica):
            raise TypeError(f"vLLM V1 schedules a CachingReplica, not a {type(replica).__name__}")
        step, state, skipped = replica.step, self._state(replica), []
        if step is not None and step.num_tokens:
            batch = Batch()
            skipped = self._admit(replica, batch, step.num_tokens, state)
            batch.repeats = not batch.chunks and step.repeats
        else:
            batch = self._continue_running(replica, state)
            if batch.preempted:
                batch.is_open = True
            elif step is not None:
                batch.repeats = False  # a call that preempts admits no request, but the next one may
            elif replica.waiting:
                batch.is_open = replica.prefix is not None and self._may_admit(replica, batch)
                if not batch.is_open:
                    skipped = self._admit(replica, batch, batch.num_tokens, state)
        if self.prefill_schedule_interval > 1:
            batch.note = self._next_state(replica, batch, skipped)
            if batch.note != replica.note:
                return batch
        return batch if step is not None or batch.decides_anything else None

    @cached_property
    def _budget(self) -> int:
        return min(self.max_num_batched_tokens, self.max_num_scheduled_tokens or self.max_num_batched_tokens)

    @cached_property
    def _max_running(self) -> int:
        return self.max_num_active_seqs or self.max_num_seqs

    def _max_tokens_per_request(self, replica: CachingReplica) -> int:
        """Return the maximum tokens of one request in this call.

        The budget may allow fewer.
        """
        num_requests = len(replica.running) + len(replica.waiting)
        limit = self.long_prefill_token_threshold if num_requests > 1 else 0
        if self.long_prefill_token_threshold_adaptive and num_requests:
            limit = max(limit, self.max_num_batched_tokens // num_requests)
        return limit or replica.max_model_len

    # -- running requests -----------------------------------------------------------------------

    def _continue_running(self, replica: CachingReplica, state: PolicyState) -> Batch:
        """Return the tokens of running requests, or the next preemption.

        A request is preempted if they lack KV blocks.
        """
        decodes = replica.decoding
        batch = every_decode(decodes)
        free_blocks = replica.free_blocks - decodes.num_new_blocks
        room = self._budget - decodes.num_requests
        if replica.prefilling:
            for request, num_tokens in self._chunks(replica, state):
                if num_tokens > room and (room <= 0 or request != next(reversed(replica.running))):
                    return self._walk(replica, state)  # this request or those behind it get fewer tokens or none
                num_tokens = min(num_tokens, room)
                room -= num_tokens
                free_blocks -= _add_chunk(replica, batch, request, num_tokens)
        if free_blocks < 0 or room < 0 or state.retries:
            return self._walk(replica, state)
        # Waiting requests may get more prefix cache hits as decodes fill blocks that other requests share.
        may_change = self.prefill_schedule_interval > 1 or (replica.waiting and replica.shares_outputs)
        batch.repeats = not batch.chunks and not may_change
        return batch

    def _chunks(self, replica: CachingReplica, state: PolicyState) -> Iterator[tuple[int, int]]:
        """Yield the next chunk of each unfinished prefill, ignoring the budget.

        Each chunk is as large as `_max_tokens_per_request` allows.
        """
        if state.on_hold:
            return
        limit, known = self._max_tokens_per_request(replica), replica.requests.known_tokens
        for request, computed in replica.prefilling.items():
            left = known[request] - computed
            if left > 0:
                yield request, min(left, limit)

    def _walk(self, replica: CachingReplica, state: PolicyState) -> Batch:
        """Schedule running requests one by one, until a request is preempted.

        That happens when one of them lacks KV blocks.
        """
        decodes, batch = replica.decoding, Batch()
        wanted = dict.fromkeys(decodes, 1) | dict(self._chunks(replica, state))
        room, free_blocks = self._budget, replica.free_blocks
        given: dict[int, int] = {}
        for request in replica.running:
            num_tokens = state.retries.get(request, min(wanted.get(request, 0), room))
            if num_tokens == 0:
                continue
            if request in decodes:
                num_blocks = int(decodes.needs_block(request))
                batch.num_decodes += 1
                batch.decode_context_tokens += decodes.context_of(request)
            else:
                num_blocks = _add_chunk(replica, batch, request, num_tokens)
            if num_blocks > free_blocks:
                retries = {**state.retries, request: num_tokens}
                return self._preempt(replica, given, replica.free_blocks - free_blocks, replace(state, retries=retries))
            free_blocks -= num_blocks
            room -= num_tokens
            given[request] = num_tokens
        batch.skipped_decodes = [request for request in decodes if request not in given]
        return batch

    def _preempt(self, replica: CachingReplica, given: Mapping[int, int], num_blocks: int, state: PolicyState) -> Batch:
        """Return a batch that preempts one request.

        Args:
            replica: Where it runs.
            given: Tokens scheduled in this call, by request.
            num_blocks: KV blocks allocated for them.
            state: State to keep in the replica.
        """
        victim = next(reversed(replica.running))
        if self.policy == PRIORITY:
            victim = max(replica.running, key=replica.requests.urgency)
        batch = Batch()
        batch.preempted, batch.note = [victim], state
        batch.blocks_before, batch.undone = num_blocks, given.get(victim, 0)
        return batch

    # -- waiting requests -----------------------------------------------------------------------

    def _may_admit(self, replica: CachingReplica, batch: Batch) -> bool:
        """Whether the caps leave room for admissions beside the running requests."""
        return 0 < batch.num_tokens < self._budget and len(replica.running) < self._max_running

    def _admit(self, replica: CachingReplica, batch: Batch, num_tokens: int, state: PolicyState) -> list[int]:
        """Admit waiting requests to a batch, in queue order.

        The batch has `num_tokens` tokens so far. With a prefix cache at most one request is admitted; the batch is
        then open.

        Returns:
            Requests that were skipped, because they were preempted and still have work in flight.
        """
        skipped: list[int] = []
        num_running, room, free_blocks = len(replica.running), self._budget - num_tokens, replica.free_blocks
        if batch.num_tokens:
            free_blocks -= replica.decoding.num_new_blocks + sum(chunk.num_blocks for chunk in batch.chunks)
        for request in replica.waiting:
            if num_running >= self._max_running or room <= 0:
                batch.until_arrival = False
                break
            if request in replica.awaiting_results:
                skipped.append(request)
                continue
            reserved = replica.watermark_blocks if num_running else 0
            chunk = self._first_chunk(replica, request, room, free_blocks - reserved, state)
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
        return skipped

    def _first_chunk(
        self, replica: CachingReplica, request: int, room: int, free_blocks: int, state: PolicyState
    ) -> PrefillChunk | None:
        """Return the first chunk of a waiting request.

        Returns None if neither it nor any request behind it is admitted.

        Args:
            replica: Where it waits.
            request: The request.
            room: Tokens left in the budget, at least 1.
            free_blocks: KV blocks that it may take.
            state: Whether prefills have to wait.
        """
        known, block_size = replica.requests.known_tokens[request], replica.block_size
        num_cached = num_evictable = 0
        if replica.prefix is not None:
            num_cached, num_evictable = replica.prefix.match(request, (known - 1) // block_size)
        computed = num_cached * block_size
        num_tokens = min(known - computed, self._max_tokens_per_request(replica))
        if state.on_hold and known - computed > 1:
            return None
        if num_tokens > room and not self.enable_chunked_prefill:
            return None
        num_tokens = min(num_tokens, room)
        num_blocks = replica.blocks_for(computed + num_tokens) - num_cached
        num_needed = replica.blocks_for(known) - num_cached if self.scheduler_reserve_full_isl else num_blocks
        if max(num_needed, num_blocks) + num_evictable > free_blocks:
            return None
        return PrefillChunk(request, num_tokens, computed, num_blocks)

    # -- prefill schedule interval ----------------------------------------------------------------

    def _state(self, replica: CachingReplica) -> PolicyState:
        """Return the state for this call, including whether prefills have to wait."""
        interval = self.prefill_schedule_interval
        state = replica.note if isinstance(replica.note, PolicyState) else PolicyState(-interval)
        if replica.step is not None:
            return state
        if interval == 1:
            return _INITIAL_STATE
        known = replica.requests.known_tokens
        num_prefills = sum(computed < known[request] for request, computed in replica.prefilling.items())
        is_too_soon = replica.num_started + 1 - state.last_prefill_batch < interval
        on_hold = is_too_soon and len(replica.running) > num_prefills and not state.has_backlog
        return replace(state, on_hold=on_hold, retries={})

    def _next_state(self, replica: CachingReplica, batch: Batch, skipped: list[int]) -> PolicyState:
        """Return the state after a step of a decision.

        Args:
            replica: Where it is decided.
            batch: The step.
            skipped: Waiting requests that admission skipped.
        """
        state = batch.note if isinstance(batch.note, PolicyState) else self._state(replica)
        known, prefilling = replica.requests.known_tokens, replica.prefilling
        carries_prefill = any(
            chunk.request in prefilling or chunk.context_tokens < known[chunk.request] - 1 for chunk in batch.chunks
        )
        carries_prefill |= batch.undone > 0 and batch.preempted[0] in prefilling
        admitted = {chunk.request for chunk in batch.chunks if chunk.request not in prefilling}
        skipped_waiting = (state.skipped_waiting | {*skipped}) - admitted
        if skipped_waiting:  # some may have finished with a token that was in flight
            skipped_waiting = frozenset(request for request in skipped_waiting if request in replica.waiting)
        has_backlog, step = state.has_backlog, replica.step
        if not batch.is_open and not state.on_hold and not (step is not None and step.preempted):
            has_backlog = len(replica.waiting) > len(admitted) + len(skipped_waiting)
        last_prefill_batch = replica.num_started + 1 if carries_prefill else state.last_prefill_batch
        return replace(
            state, last_prefill_batch=last_prefill_batch, has_backlog=has_backlog, skipped_waiting=skipped_waiting
        )


def _add_chunk(replica: CachingReplica, batch: Batch, request: int, num_tokens: int) -> int:
    """Add the next chunk of an unfinished prefill to a batch.

    Returns:
        KV blocks that the chunk takes.
    """
    computed = replica.prefilling[request]
    num_blocks = replica.blocks_for(computed + num_tokens) - replica.num_blocks_of(request)
    batch.add_chunk(request, num_tokens, computed, num_blocks)
    return num_blocks
