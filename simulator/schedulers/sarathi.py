"""Sarathi: chunked prefills and stall-free batching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.replica import Batch, Limits, Replica
from simulator.schedulers.base import LostPrefill, next_admissible, schedule_decodes
from simulator.schedulers.dynamic_chunks import DynamicChunks
from traces.shared.value_checks import MOST, integer


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

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("token_budget", self.token_budget, 1, MOST)
        integer("max_num_seqs", self.max_num_seqs, 1, MOST)

    @property
    def limits(self) -> Limits:
        """What the engine needs to know of the policy."""
        largest = self.dynamic_chunks.high if self.dynamic_chunks.stages else self.token_budget
        return Limits(self.max_num_seqs, largest, budget_option="token_budget")

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        batch = replica.step
        paused = replica.paused_prefills() if replica.prefilling else ()
        preempted = schedule_decodes(replica)
        if paused:
            self._continue_prefills(replica, paused)
        if replica.waiting:
            self._admit(replica, preempted)
        else:
            batch.until_arrival = self._room(batch, 0) > 0
        if batch.chunks and self.dynamic_chunks.stages:
            batch.repeats = False  # the next chunks may have another size
        return batch if batch.num_decodes or batch.decides_anything else None

    def _room(self, batch: Batch, computed_tokens: int) -> int:
        """Return the budget left for a chunk after `computed_tokens` of a prefill.

        Returns:
            Number of tokens; 0 or less: none.
        """
        dynamic = self.dynamic_chunks
        budget = dynamic.size_at(computed_tokens) if dynamic.stages else self.token_budget
        return budget - batch.num_decodes - batch.num_prefill_tokens

    def _continue_prefills(self, replica: Replica, paused: Sequence[int]) -> None:
        """Schedule the next chunks of unfinished prefills."""
        batch, prefilling = replica.step, replica.prefilling
        for request in paused:
            if request not in prefilling:
                continue  # preempted in this step
            computed = prefilling[request]
            remaining = replica.requests.known_tokens[request] - computed
            room = self._room(batch, computed)
            if room > 0:
                replica.allocate(request, remaining if remaining < room else room)
        if replica.has_ties:
            replica.reorder(_order_after(replica, paused))

    def _admit(self, replica: Replica, preempted: Mapping[int, LostPrefill]) -> None:
        """Admit requests with their first chunks.

        A request preempted in this step still counts the progress that it has just lost, as in the engine: a complete
        prefill has no tokens left to compute, which ends the admissions.
        """
        batch, known_tokens = replica.step, replica.requests.known_tokens
        if not preempted and not self.dynamic_chunks.stages and self._room(batch, 0) <= 0:
            batch.until_arrival = False
            return
        while (head := next_admissible(replica, replica.max_model_len)) is not None:
            computed, left = preempted[head] if head in preempted else (0, known_tokens[head])
            num_tokens = min(left, self._room(batch, computed))
            if len(replica.running) >= self.max_num_seqs or num_tokens <= 0:
                break
            replica.admit(head, num_tokens, reserved_tokens=known_tokens[head])
        batch.until_arrival = not replica.waiting and self._room(batch, 0) > 0


def _order_after(replica: Replica, paused: Sequence[int]) -> list[int]:
    """Return running requests by arrival, unfinished prefills last.

    This is the order of the engine.
    """
    last = set(paused)
    order = replica.by_arrival()
    return [request for request in order if request not in last] + [request for request in order if request in last]
