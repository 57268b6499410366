"""Orca: iteration-level batching of whole prompts beside decodes."""

from dataclasses import dataclass
from typing import ClassVar

from simulator.replica import Batch, Replica
from simulator.schedulers.base import every_decode, require_at_least, reserving_admissions, whole_prompts


@dataclass(frozen=True)
class Orca:
    """Iteration-level batching: all decodes, and whole prompts of all admissible requests.

    Each request reserves the KV blocks of max_model_len tokens, so no request is ever
    preempted. There is no token budget.

    Attributes:
        max_num_seqs: Maximum admitted requests, over all batches in flight.

    Source: Yu et al., OSDI 2022.
    """

    max_num_seqs: int = 16
    appends_blocks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least("max_num_seqs", self.max_num_seqs, 1)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        batch = every_decode(replica.decoding)
        if replica.waiting:
            batch = whole_prompts(reserving_admissions(replica), self.max_num_seqs, batch=batch)
        return batch if batch.decides_anything else None

    def profiled_tokens(self, max_model_len: int) -> int:
        """Return the number of tokens in the engine's memory profiling run."""
        return self.max_num_seqs * max_model_len

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """Return the free KV blocks needed to admit `num_tokens` known tokens."""
        return replica.blocks_for(replica.max_model_len)
