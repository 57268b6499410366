"""vLLM (v0): prefills first, in batches of their own."""

from dataclasses import dataclass

from simulator.replica import Batch, Limits, Replica
from simulator.schedulers.base import admit_whole_prompts, schedule_decodes
from traces.shared.value_checks import MOST, integer


@dataclass(frozen=True)
class VLLM:
    """Prefill-first batching: whole prompts as soon as they fit in memory.

    Decodes run only when no prompt can be admitted.

    Attributes:
        max_num_batched_tokens: Prompt tokens per iteration, at most max_model_len; None: max_model_len.
        max_num_seqs: Maximum admitted requests, over all batches in flight.

    Source: Kwon et al., SOSP 2023 (arXiv:2309.06180).
    """

    max_num_batched_tokens: int | None = None
    max_num_seqs: int = 128

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_num_batched_tokens is not None:
            integer("max_num_batched_tokens", self.max_num_batched_tokens, 1, MOST)
        integer("max_num_seqs", self.max_num_seqs, 1, MOST)

    @property
    def limits(self) -> Limits:
        """What the engine needs to know of the policy."""
        return Limits(self.max_num_seqs, self.max_num_batched_tokens)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        batch = replica.step
        budget = min(self.max_num_batched_tokens or replica.max_model_len, replica.max_model_len)
        admit_whole_prompts(replica, self.max_num_seqs, longest=budget, max_tokens=budget)
        if not batch.decides_anything:
            schedule_decodes(replica)
        return batch if batch.decides_anything else None
