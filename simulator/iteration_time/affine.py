"""Affine iteration time: for tests, queueing theory and recorded schedules."""

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.iteration_time.base import StageTimes
from simulator.model import EngineOverhead, Layout
from simulator.replica import Batch
from traces.shared.value_checks import each, number

LONGEST_S = 1e6  # longer than any iteration


@dataclass(frozen=True)
class Affine:
    """Iteration time that is affine in batch tokens and context tokens.

    base_s + per_token_s * tokens + per_context_token_s * context tokens, split evenly over the pipeline stages.

    Attributes:
        base_s: Seconds of an empty iteration.
        per_token_s: Seconds per token of the batch.
        per_context_token_s: Seconds per token that is in the KV cache when the iteration starts.
    """

    base_s: float = 0.02
    per_token_s: float = 0.0001
    per_context_token_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        each(number, self, vars(self), 0, LONGEST_S)
        if self.base_s == 0 and self.per_token_s == 0:
            raise ValueError("base_s and per_token_s must not both be 0: iterations would take no time")

    def for_layout(self, layout: Layout, engine: EngineOverhead) -> StageTimes:
        """Return the stage times; only the number of pipeline stages matters.

        Sends between stages take no time.
        """
        base_s, per_token_s, per_context_token_s = self.base_s, self.per_token_s, self.per_context_token_s
        num_stages = layout.parallel.pp

        def stage_times(batch: Batch) -> Sequence[float]:
            num_tokens = batch.num_prefill_tokens + batch.num_decodes
            context_tokens = batch.prefill_context_tokens + batch.decode_context_tokens
            stage_s = (base_s + per_token_s * num_tokens + per_context_token_s * context_tokens) / num_stages
            return (stage_s,) + (0.0, stage_s) * (num_stages - 1)

        return StageTimes(stage_times)
