"""FasterTransformer: request-level batching."""

from dataclasses import dataclass

from simulator.replica import Batch, Limits, Replica
from simulator.schedulers.base import admit_whole_prompts
from traces.shared.value_checks import MOST, integer


@dataclass(frozen=True)
class FasterTransformer:
    """Request-level batching: the next batch starts when the last has finished.

    Each request reserves the KV blocks of max_model_len tokens. The batch shrinks as its members finish.

    Attributes:
        max_num_seqs: Maximum admitted requests, over all batches in flight.

    Source: NVIDIA FasterTransformer; the decode-first baseline of Agrawal et al. (arXiv:2403.02310).
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
        if replica.decoding.num_requests:
            replica.allocate_all()
            batch.repeats, batch.until_arrival = True, False
        else:
            admit_whole_prompts(replica, self.max_num_seqs, replica.max_model_len)
        return batch if batch.decides_anything else None
