"""Chunked prefills alone: chunks and decodes take turns and never share an iteration."""

from dataclasses import dataclass
from typing import ClassVar

from simulator.replica import Batch, Replica
from simulator.schedulers.base import Admissions, decodes_that_fit, require_at_least


@dataclass(frozen=True)
class ChunkedPrefills:
    """An iteration of prefill chunks up to the chunk size, then one of all decodes, and so on.

    Where one of the two has nothing to do the other has its turn. A prompt takes the KV blocks of its whole
    length at admission.

    Attributes:
        chunk_size: Prompt tokens per iteration.
        max_num_seqs: Admitted requests at most, over all batches in flight.

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
        """Tokens of the forward pass by which the engine finds out how much memory activations take."""
        return min(self.chunk_size, max_model_len)

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """KV blocks that have to be free to admit a request of so many known tokens."""
        return replica.blocks_for(num_tokens) + replica.watermark_blocks

    def _decodes(self, replica: Replica) -> Batch:
        """Return all decodes; the same again only if nobody could take a turn."""
        batch = decodes_that_fit(replica)
        batch.repeats = batch.repeats and not replica.prefilling and not replica.waiting
        return batch

    def _chunks(self, replica: Replica) -> Batch:
        """Return the next chunks of unfinished prefills; only without any, the first ones of new requests."""
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
