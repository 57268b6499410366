"""Chunked prefills only: chunks and decodes alternate and never share an iteration."""

from dataclasses import dataclass
from typing import ClassVar

from simulator.replica import Batch, Replica
from simulator.schedulers.base import Admissions, decodes_that_fit, require_at_least


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
    appends_blocks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least("chunk_size", self.chunk_size, 1)
        require_at_least("max_num_seqs", self.max_num_seqs, 1)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        first, second = self._chunks, self._decodes
        if replica.last_batch_prefilled:
            first, second = second, first
        batch = first(replica)
        if not batch.decides_anything:
            batch = second(replica)
        return batch if batch.decides_anything else None

    def profiled_tokens(self, max_model_len: int) -> int:
        """Return the number of tokens in the engine's memory profiling run."""
        return min(self.chunk_size, max_model_len)

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """Return the free KV blocks needed to admit `num_tokens` known tokens."""
        return replica.blocks_for(num_tokens) + replica.watermark_blocks

    def _decodes(self, replica: Replica) -> Batch:
        """Return all decodes.

        They repeat only if no prefill could take a turn.
        """
        batch = decodes_that_fit(replica)
        batch.repeats = batch.repeats and not replica.prefilling and not replica.waiting
        return batch

    def _chunks(self, replica: Replica) -> Batch:
        """Return the next chunks of unfinished prefills.

        If there are none, return the first chunks of new requests.
        """
        batch = Batch()
        for request in replica.paused_prefills():
            computed = replica.prefilling[request]
            remaining = replica.requests.known_tokens[request] - computed
            num_tokens = min(remaining, self.chunk_size - batch.num_prefill_tokens)
            if num_tokens > 0:
                batch.add_chunk(request, num_tokens, computed)
        if batch.chunks:
            return batch
        admissions = Admissions(
            replica,
            free_blocks=replica.free_blocks - replica.watermark_blocks,
            limit=replica.max_model_len,
        )
        num_running = len(replica.running)
        for request, known_tokens, num_blocks in admissions:
            num_tokens = min(known_tokens, self.chunk_size - batch.num_prefill_tokens)
            if num_running >= self.max_num_seqs or num_tokens <= 0:
                break
            batch.add_chunk(request, num_tokens, 0, num_blocks)
            num_running += 1
        batch.ignored = admissions.ignored
        return batch
