"""Chunk sizes of Sarathi that shrink with the progress of a prefill."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from traces.shared.value_checks import MOST, integer


@dataclass(frozen=True)
class DynamicChunks:
    """Chunk sizes that shrink with the progress of a prefill.

    Attributes:
        stages: Number of chunk sizes; 0 turns the schedule off.
        low: Chunk size of the last stage, tokens.
        high: Chunk size of the first stage, tokens.
        max_tokens: Progress, in tokens, that the stages divide into equal parts.
    """

    stages: int = 0
    low: int = 128
    high: int = 512
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("stages", self.stages, 0, MOST)
        integer("low", self.low, 1, MOST)
        integer("high", self.high, self.low, MOST)
        integer("max_tokens", self.max_tokens, 1, MOST)

    @cached_property
    def sizes(self) -> list[int]:
        """Chunk size of each stage, largest first: multiples of min(32, low) tokens."""
        step = min(32, self.low)
        levels = [int(size) for size in np.linspace(self.low, self.high, self.stages)]
        return [round(size / step) * step for size in reversed(levels)]

    def size_at(self, computed_tokens: int) -> int:
        """Return the chunk size after `computed_tokens` of a prefill.

        Beyond `max_tokens`, it is that of the last stage.
        """
        stage_tokens = -(-self.max_tokens // self.stages)
        return self.sizes[min(computed_tokens // stage_tokens, self.stages - 1)]
