"""vLLM V1: one token budget for running requests, then for waiting ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from simulator.replica import Batch, Limits, Replica
from traces.shared.value_checks import MOST, choice, flag, integer, number

FCFS, PRIORITY = "fcfs", "priority"


@dataclass(frozen=True)
class PolicyState:
    """State of the policy, kept in the replica between calls.

    Attributes:
        last_prefill_batch: Number of the last batch that carried prefill tokens.
        has_backlog: Whether requests, other than skipped ones, were left waiting after the last look at the queue.
        skipped_waiting: Waiting requests that admission had to skip.
    """

    last_prefill_batch: int = 0
    has_backlog: bool = False
    skipped_waiting: frozenset[int] = frozenset()


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

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("max_num_batched_tokens", "max_num_seqs", "prefill_schedule_interval"):
            integer(name, getattr(self, name), 1, MOST)
        integer("long_prefill_token_threshold", self.long_prefill_token_threshold, 0, MOST)
        for name in ("max_num_active_seqs", "max_num_scheduled_tokens"):
            integer(name, getattr(self, name), 1, MOST, optional=True)
        choice("policy", self.policy, (FCFS, PRIORITY))
        number("watermark", self.watermark, 0, 1, excluding="high")
        for name in ("enable_chunked_prefill", "scheduler_reserve_full_isl", "async_scheduling"):
            flag(name, getattr(self, name))
        flag("long_prefill_token_threshold_adaptive", self.long_prefill_token_threshold_adaptive)

    @property
    def limits(self) -> Limits:
        """What the engine needs to know of the policy."""
        chunked = self.enable_chunked_prefill and not self.scheduler_reserve_full_isl
        return Limits(
            max_num_seqs=self._max_running,
            max_batch_tokens=self.max_num_batched_tokens,
            budget_option="max_num_batched_tokens",
            profiled_seqs=None,
            max_admission_tokens=self._budget if chunked else None,
            watermark=self.watermark,
            queue_order="priority" if self.policy == PRIORITY else "fcfs",
            batch_order="running",
            prefix_caching=True,
            lookahead=int(self.async_scheduling),
            keeps_preempted_results=True,
            uses_batch_queue=True,
            checks_length_on_arrival=True,
            null_blocks=1,
        )

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration: running requests in admission order, then waiting ones."""
        batch, limit, on_hold = replica.step, self._max_tokens_per_request(replica), self._is_on_hold(replica)
        known_tokens = replica.requests.known_tokens
        chunks: dict[int, int] = {}
        if not on_hold:
            for request, computed in replica.prefilling.items():
                if known_tokens[request] > computed:
                    chunks[request] = min(known_tokens[request] - computed, limit)
        room, carries_prefill = self._continue_running(replica, chunks)
        skipped: list[int] = []
        if replica.waiting and not batch.preempted:
            skipped = self._admit(replica, room, limit, on_hold)
        if self.prefill_schedule_interval > 1:
            batch.note = self._next_state(replica, skipped, on_hold, carries_prefill)
        return batch if batch.decides_anything else None

    @cached_property
    def _budget(self) -> int:
        return min(self.max_num_batched_tokens, self.max_num_scheduled_tokens or self.max_num_batched_tokens)

    @cached_property
    def _max_running(self) -> int:
        return self.max_num_active_seqs or self.max_num_seqs

    def _max_tokens_per_request(self, replica: Replica) -> int:
        """Return the maximum tokens of one request; the budget may allow fewer."""
        num_requests = len(replica.running) + len(replica.waiting)
        limit = self.long_prefill_token_threshold if num_requests > 1 else 0
        if self.long_prefill_token_threshold_adaptive and num_requests:
            limit = max(limit, self.max_num_batched_tokens // num_requests)
        return limit or replica.max_model_len

    # -- running requests -----------------------------------------------------------------------

    def _continue_running(self, replica: Replica, chunks: dict[int, int]) -> tuple[int, bool]:
        """Schedule the next chunk or token of each running request.

        Returns:
            Tokens left in the budget, and whether any were given to a prefill.
        """
        decodes, last = replica.decoding, next(reversed(replica.running), -1)
        room, fitting = self._budget - decodes.num_requests - sum(chunks.values()), chunks
        if room < 0 and last in chunks and chunks[last] + room > 0:  # only the last request gets fewer tokens
            fitting, room = {**chunks, last: chunks[last] + room}, 0
        num_blocks = decodes.num_new_blocks
        for request, num_tokens in fitting.items():
            num_blocks += replica.blocks_for(replica.prefilling[request] + num_tokens) - replica.num_blocks_of(request)
        if room < 0 or num_blocks > replica.free_blocks:
            return self._continue_one_by_one(replica, chunks)
        replica.allocate_all(fitting)
        # Waiting requests may get more prefix cache hits as decodes fill blocks that other requests share.
        may_change = self.prefill_schedule_interval > 1 or (replica.waiting and replica.shares_outputs)
        replica.step.repeats = not chunks and not may_change
        return room, bool(chunks)

    def _continue_one_by_one(self, replica: Replica, chunks: Mapping[int, int]) -> tuple[int, bool]:
        """Schedule running requests in order, preempting if KV blocks run short."""
        decodes, room, carries_prefill = replica.decoding, self._budget, False
        given: dict[int, int] = {}
        for request in list(replica.running):
            num_tokens = min(1 if request in decodes else chunks.get(request, 0), room)
            if num_tokens == 0 or request not in replica.running:  # it has none to compute, or was preempted
                continue
            while not replica.allocate(request, num_tokens):
                victim = next(reversed(replica.running))
                if self.policy == PRIORITY:
                    victim = max(replica.running, key=replica.requests.urgency)
                room += given.pop(victim, 0)
                replica.preempt(victim)
                if victim == request:
                    break
            else:
                given[request] = num_tokens
                room -= num_tokens
                carries_prefill |= request in chunks
        return room, carries_prefill

    # -- waiting requests -----------------------------------------------------------------------

    def _admit(self, replica: Replica, room: int, limit: int, on_hold: bool) -> list[int]:
        """Admit waiting requests in queue order.

        Returns:
            Requests that were skipped, because they were preempted and still have work in flight.
        """
        batch = replica.step
        skipped: list[int] = []
        while len(replica.waiting) > len(skipped):
            request = replica.waiting[len(skipped)]
            if len(replica.running) >= self._max_running or room <= 0:
                batch.until_arrival = False
                break
            if request in replica.awaiting:
                skipped.append(request)
                continue
            num_tokens = self._admit_one(replica, request, room, limit, on_hold)
            if num_tokens == 0:
                batch.until_arrival = self.policy == PRIORITY
                break
            room -= num_tokens
            batch.repeats = False
        return skipped

    def _admit_one(self, replica: Replica, request: int, room: int, limit: int, on_hold: bool) -> int:
        """Admit a request if its first chunk fits.

        The chunk has at most `limit` tokens, and at most `room`, which are left of the budget.

        Returns:
            Tokens of the chunk; 0: neither it nor any request behind it is admitted.
        """
        known = replica.requests.known_tokens[request]
        cached, num_evictable = replica.kv.match(request, known - 1)
        num_tokens = min(known - cached, limit)
        if (on_hold and known - cached > 1) or (num_tokens > room and not self.enable_chunked_prefill):
            return 0
        num_tokens = min(num_tokens, room)
        needed = known if self.scheduler_reserve_full_isl else cached + num_tokens
        num_blocks = replica.blocks_for(needed) - replica.blocks_for(cached) + num_evictable
        if num_blocks + (replica.watermark_blocks if replica.running else 0) > replica.free_blocks:
            return 0
        replica.admit(request, num_tokens, cached_tokens=cached)
        return num_tokens

    # -- prefill schedule interval ----------------------------------------------------------------

    def _is_on_hold(self, replica: Replica) -> bool:
        """Whether prefills have to wait in this call."""
        if self.prefill_schedule_interval == 1:
            return False
        state, known_tokens = self._state(replica), replica.requests.known_tokens
        num_prefills = sum(computed < known_tokens[request] for request, computed in replica.prefilling.items())
        is_too_soon = replica.num_started + 1 - state.last_prefill_batch < self.prefill_schedule_interval
        return is_too_soon and len(replica.running) > num_prefills and not state.has_backlog

    def _state(self, replica: Replica) -> PolicyState:
        return cast("PolicyState", replica.note or PolicyState(-self.prefill_schedule_interval))

    def _next_state(self, replica: Replica, skipped: list[int], on_hold: bool, carries_prefill: bool) -> PolicyState:
        """Return the state after this call."""
        state, batch, known_tokens = self._state(replica), replica.step, replica.requests.known_tokens
        carries_prefill |= any(chunk.context_tokens < known_tokens[chunk.request] - 1 for chunk in batch.chunks)
        # Some that were skipped may have been admitted, or have finished with a token that was in flight.
        skipped_waiting = frozenset(filter(replica.waiting.__contains__, state.skipped_waiting.union(skipped)))
        has_backlog = state.has_backlog
        if not on_hold and not batch.preempted:
            has_backlog = len(replica.waiting) > len(skipped_waiting)
        last_prefill_batch = replica.num_started + 1 if carries_prefill else state.last_prefill_batch
        return PolicyState(last_prefill_batch, has_backlog, skipped_waiting)
