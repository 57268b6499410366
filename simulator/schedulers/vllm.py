"""vLLM (v0): prefills first, in batches of their own."""

from dataclasses import dataclass
from typing import ClassVar

from simulator.replica import Batch, Replica
from simulator.schedulers.base import Admissions, decodes_that_fit, require_at_least, whole_prompts


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
    appends_blocks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_num_batched_tokens is not None:
            require_at_least("max_num_batched_tokens", self.max_num_batched_tokens, 1)
        require_at_least("max_num_seqs", self.max_num_seqs, 1)

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration."""
        budget = replica.max_model_len
        if self.max_num_batched_tokens is not None:
            budget = min(budget, self.max_num_batched_tokens)
        admissions = Admissions(
            replica,
            free_blocks=replica.free_blocks - replica.watermark_blocks,
            limit=budget,
        )
        batch = whole_prompts(admissions, self.max_num_seqs, budget)
        if not batch.decides_anything:
            batch = decodes_that_fit(replica)
            batch.until_arrival = admissions.exhausted
        return batch if batch.decides_anything else None

    def profiled_tokens(self, max_model_len: int) -> int:
        """Return the number of tokens in the engine's memory profiling run."""
        return min(self.max_num_batched_tokens or max_model_len, max_model_len)

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """Return the free KV blocks needed to admit `num_tokens` known tokens."""
        return replica.blocks_for(num_tokens) + replica.watermark_blocks
