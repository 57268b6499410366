"""Orca: iteration-level batching of whole prompts beside decodes."""

from dataclasses import dataclass
from typing import ClassVar

from simulator.replica import Batch, Replica
from simulator.schedulers.base import every_decode, require_at_least, reserving_admissions, whole_prompts


@dataclass(frozen=True)
class Orca:
    """Every decode, and beside them the whole prompts of all requests that can be admitted.

    Each request reserves the KV blocks of max_model_len tokens, so nothing is ever preempted. There is
    no token budget.

    Attributes:
        max_num_seqs: Admitted requests at most, over all batches in flight.

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
        """Tokens of the forward pass by which the engine finds out how much memory activations take."""
        return self.max_num_seqs * max_model_len

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """KV blocks that have to be free to admit a request of so many known tokens."""
        return replica.blocks_for(replica.max_model_len)
