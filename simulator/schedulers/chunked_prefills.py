"""Chunked prefills only: chunks and decodes alternate and never share an iteration."""

from dataclasses import dataclass

from simulator.replica import Batch, Limits, Replica
from simulator.schedulers.base import next_admissible, schedule_decodes
from traces.shared.value_checks import MOST, integer


@dataclass(frozen=True)
class ChunkedPrefills:
    """Alternating iterations of prefill chunks and of all decodes.

    If one of the two has nothing to compute, the other takes its turn. A prompt takes the KV blocks of its
    whole length at admission.

    Attributes:
        chunk_size: Maximum prompt tokens per iteration.
        max_num_seqs: Maximum admitted requests, over all batches in flight.

    Source: "chunked-prefills-only" of the ablation in Agrawal et al., OSDI 2024 (arXiv:2403.02310), section 5.4.
    """

    chunk_size: int = 512
    max_num_seqs: int = 128

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("chunk_size", self.chunk_size, 1, MOST)
        integer("max_num_seqs", self.max_num_seqs, 1, MOST)

    @property
    def limits(self) -> Limits:
        """What the engine needs to know of the policy."""
        return Limits(self.max_num_seqs, self.chunk_size)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        batch = replica.step
        first, second = self._schedule_chunks, self._schedule_decodes
        if replica.last_batch_prefilled:
            first, second = second, first
        first(replica)
        if not batch.decides_anything:
            second(replica)
        return batch if batch.decides_anything else None

    def _schedule_decodes(self, replica: Replica) -> None:
        """Schedule all decodes.

        They repeat only if no prefill could take a turn.
        """
        schedule_decodes(replica)
        replica.step.repeats &= not replica.prefilling and not replica.waiting

    def _schedule_chunks(self, replica: Replica) -> None:
        """Schedule the next chunks of unfinished prefills.

        If there are none, admit requests with their first chunks.
        """
        batch, known_tokens = replica.step, replica.requests.known_tokens
        for request in replica.paused_prefills():
            left = known_tokens[request] - replica.prefilling[request]
            num_tokens = min(left, self.chunk_size - batch.num_prefill_tokens)
            if num_tokens > 0:
                replica.allocate(request, num_tokens)
        if batch.chunks:
            return
        while (head := next_admissible(replica, replica.max_model_len)) is not None:
            num_tokens = min(known_tokens[head], self.chunk_size - batch.num_prefill_tokens)
            if len(replica.running) >= self.max_num_seqs or num_tokens <= 0:
                break
            replica.admit(head, num_tokens, reserved_tokens=known_tokens[head])
