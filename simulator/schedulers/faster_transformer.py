"""FasterTransformer: request-level batching."""

from dataclasses import dataclass
from typing import ClassVar

from simulator.replica import Batch, Replica
from simulator.schedulers.base import every_decode, require_at_least, reserving_admissions, whole_prompts


@dataclass(frozen=True)
class FasterTransformer:
    """Request-level batching: the next batch starts when the last has finished.

    Each request reserves the KV blocks of max_model_len tokens. The batch shrinks as its members finish.

    Attributes:
        max_num_seqs: Maximum admitted requests, over all batches in flight.

    Source: NVIDIA FasterTransformer; the decode-first baseline of Agrawal et al. (arXiv:2403.02310).
    """

    max_num_seqs: int = 16
    appends_blocks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least("max_num_seqs", self.max_num_seqs, 1)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        if replica.decoding.num_requests:
            batch = every_decode(replica.decoding)
            batch.until_arrival = False
            return batch
        batch = whole_prompts(reserving_admissions(replica), self.max_num_seqs)
        return batch if batch.decides_anything else None

    def profiled_tokens(self, max_model_len: int) -> int:
        """Return the number of tokens in the engine's memory profiling run."""
        return self.max_num_seqs * max_model_len

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """Return the free KV blocks needed to admit `num_tokens` known tokens."""
        return replica.blocks_for(replica.max_model_len)
