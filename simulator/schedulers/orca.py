"""Orca: iteration-level batching of whole prompts beside decodes."""

from dataclasses import dataclass

from simulator.replica import Batch, Limits, Replica
from simulator.schedulers.base import admit_whole_prompts
from traces.shared.value_checks import MOST, integer


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

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("max_num_seqs", self.max_num_seqs, 1, MOST)

    @property
    def limits(self) -> Limits:
        """What the engine needs to know of the policy."""
        return Limits(self.max_num_seqs, profiled_seqs=self.max_num_seqs, reserves_whole_sequence=True)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        batch = replica.step
        replica.allocate_all()
        batch.repeats = True
        admit_whole_prompts(replica, self.max_num_seqs, replica.max_model_len)
        return batch if batch.decides_anything else None
