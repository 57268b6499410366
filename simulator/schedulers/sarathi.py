"""Sarathi: chunked prefills and stall-free batching."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from simulator.replica import Batch, Replica
from simulator.schedulers.base import Admissions, decodes_that_fit, free_blocks_after, require_at_least


@dataclass(frozen=True)
class DynamicChunks:
    """Chunk sizes that shrink with the progress of a prefill.

    Attributes:
        stages: Number of chunk sizes; 0 turns the schedule off.
        low: Chunk size of the last stage, tokens.
        high: Chunk size of the first stage, tokens.
        max_tokens: Progress, in tokens, that the stages divide into equal parts.
    """

    stages: int = 0
    low: int = 128
    high: int = 512
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least("stages", self.stages, 0)
        require_at_least("low", self.low, 1)
        require_at_least("high", self.high, self.low)
        require_at_least("max_tokens", self.max_tokens, 1)

    @cached_property
    def sizes(self) -> list[int]:
        """Chunk size of each stage, largest first: multiples of min(32, low) tokens."""
        step = min(32, self.low)
        levels = [int(size) for size in np.linspace(self.low, self.high, self.stages)]
        return [round(size / step) * step for size in reversed(levels)]

    def size_at(self, computed_tokens: int) -> int:
        """Return the chunk size after `computed_tokens` of a prefill.

        Beyond `max_tokens`, it is that of the last stage.
        """
        stage_tokens = -(-self.max_tokens // self.stages)
        return self.sizes[min(computed_tokens // stage_tokens, self.stages - 1)]


@dataclass(frozen=True)
class Sarathi:
    """All decodes, then prefill chunks up to a token budget.

    Decodes are never delayed by a prompt and never limited by the budget. A prompt takes the KV blocks
    of its whole length at admission.

    Attributes:
        token_budget: Tokens per iteration, decodes included.
        max_num_seqs: Maximum admitted requests, over all batches in flight.
        dynamic_chunks: Chunk sizes by progress of a prefill, in place of the token budget.

    Source: Agrawal et al., OSDI 2024 (arXiv:2403.02310), section 4.
    """

    token_budget: int = 512
    max_num_seqs: int = 128
    dynamic_chunks: DynamicChunks = field(default_factory=DynamicChunks)
    appends_blocks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least("token_budget", self.token_budget, 1)
        require_at_least("max_num_seqs", self.max_num_seqs, 1)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        batch = decodes_that_fit(replica)
        if replica.prefilling:
            self._continue_prefills(replica, batch)
        if replica.waiting or batch.preempted:
            self._admit(replica, batch)
        else:
            batch.until_arrival = self._room(batch, 0) > 0
        if batch.chunks and self.dynamic_chunks.stages:
            batch.repeats = False  # the next chunks may have another size
        if batch.num_decodes or batch.chunks or batch.preempted or batch.ignored:
            return batch
        return None

    def profiled_tokens(self, max_model_len: int) -> int:
        """Return the number of tokens in the engine's memory profiling run."""
        largest = self.dynamic_chunks.high if self.dynamic_chunks.stages else self.token_budget
        return min(largest, max_model_len)

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """Return the free KV blocks needed to admit `num_tokens` known tokens."""
        return replica.blocks_for(num_tokens) + replica.watermark_blocks

    def _room(self, batch: Batch, computed_tokens: int) -> int:
        """Return the budget left for a chunk after `computed_tokens` of a prefill.

        Returns:
            Number of tokens; 0 or less: none.
        """
        dynamic = self.dynamic_chunks
        budget = dynamic.size_at(computed_tokens) if dynamic.stages else self.token_budget
        return budget - batch.num_decodes - batch.num_prefill_tokens

    def _continue_prefills(self, replica: Replica, batch: Batch) -> None:
        """Add the next chunks of unfinished prefills."""
        paused = replica.paused_prefills()
        for request in paused:
            computed = replica.prefilling[request]
            remaining = replica.requests.known_tokens[request] - computed
            room = self._room(batch, computed)
            if room > 0 and request not in batch.preempted:
                batch.add_chunk(request, remaining if remaining < room else room, computed)
        if replica.has_ties and paused:
            batch.running_order = _order_after(replica, paused)

    def _admit(self, replica: Replica, batch: Batch) -> None:
        """Admit requests with their first chunks."""
        preempted = batch.preempted
        if not preempted and not self.dynamic_chunks.stages and self._room(batch, 0) <= 0:
            batch.until_arrival = False
            return
        num_running = len(replica.running) - len(preempted)
        admissions = Admissions(
            replica,
            free_blocks=free_blocks_after(replica, batch) - replica.watermark_blocks,
            limit=replica.max_model_len,
            preempted=preempted,
        )
        for request, known_tokens, num_blocks in admissions:
            # A request preempted in this call still counts the progress that it has just lost, as in the engine:
            # a complete prefill has no tokens left to compute, which ends the admissions.
            lost = replica.computed_tokens(request) if request in preempted else 0
            remaining = replica.requests.known_tokens[request] - lost if lost else known_tokens
            num_tokens = min(remaining, self._room(batch, lost))
            if num_running >= self.max_num_seqs or num_tokens <= 0:
                break
            batch.add_chunk(request, num_tokens, 0, num_blocks)
            num_running += 1
        batch.ignored = admissions.ignored
        batch.until_arrival = admissions.exhausted and self._room(batch, 0) > 0


def _order_after(replica: Replica, paused: Collection[int]) -> list[int]:
    """Return running requests by arrival, unfinished prefills last.

    This is the order of the engine.
    """
    last = set(paused)
    order = replica.by_arrival()
    return [request for request in order if request not in last] + [request for request in order if request in last]
