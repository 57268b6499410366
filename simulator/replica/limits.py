"""What an engine needs to know of a scheduling policy."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Limits:
    """Limits of a scheduling policy, and rules of its engine.

    Attributes:
        max_num_seqs: Maximum running requests; None: no limit.
        max_batch_tokens: Maximum tokens of a batch, which decodes alone may exceed; None: no limit.
        budget_option: Name of the policy's option that sets `max_batch_tokens`; None: it has none.
        profiled_seqs: Sequences of max_model_len tokens in the engine's memory profiling run, if `max_batch_tokens`
            allows them; None: as many as fill a batch.
        reserves_whole_sequence: Whether an admission takes the KV blocks of max_model_len tokens, so that decodes
            never take another one.
        max_admission_tokens: Tokens for which an admission needs KV blocks at most; None: all known tokens.
        watermark: Share of the KV blocks that an admission leaves free while requests run; None: the share that the
            engine's memory settings give, always left free.
        queue_order: Order of the waiting requests.
        batch_order: Order of the requests in a batch: prefills first and then decodes by arrival, or that of the
            running requests.
        prefix_caching: Whether admissions look for cached prefixes.
        lookahead: Batches scheduled before the results of the oldest one are known, beside one per pipeline stage.
        keeps_preempted_results: Whether tokens in flight count when their request is preempted meanwhile; it is then
            admitted again only after they have arrived. Otherwise they are dropped.
        uses_batch_queue: Whether the engine calls the policy once for each free slot of a queue of batches, and not
            whenever a pipeline stage is free.
        checks_length_on_arrival: Whether the engine refuses a prompt that leaves no room for output when it arrives,
            and ends an output at max_model_len. Otherwise the policy refuses prompts that are too long.
        null_blocks: KV blocks that the engine never allocates.
    """

    max_num_seqs: int | None = None
    max_batch_tokens: int | None = None
    budget_option: str | None = None
    profiled_seqs: int | None = 1
    reserves_whole_sequence: bool = False
    max_admission_tokens: int | None = None
    watermark: float | None = None
    queue_order: Literal["fcfs", "priority"] = "fcfs"
    batch_order: Literal["prefills_first", "running"] = "prefills_first"
    prefix_caching: bool = False
    lookahead: int = 0
    keeps_preempted_results: bool = False
    uses_batch_queue: bool = False
    checks_length_on_arrival: bool = False
    null_blocks: int = 0

    def profiled_tokens(self, max_model_len: int) -> int:
        """Return the number of tokens in the engine's memory profiling run.

        Source: memory profiling of sarathi-serve and vLLM, which run the largest batch before they size the KV cache.
        """
        if self.max_batch_tokens is None:
            return (self.profiled_seqs or 1) * max_model_len
        if self.profiled_seqs is None:
            return self.max_batch_tokens
        return min(self.max_batch_tokens, self.profiled_seqs * max_model_len)
