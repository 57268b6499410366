"""Iteration time over batch tokens: the one-time profiling of Sarathi-Serve."""

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.iteration_time import StageTimes
from simulator.replica import Batch

STEP = 8  # tokens between points of the curve


@dataclass(frozen=True)
class IterationLoad:
    """Decodes beside a prefill chunk, and the chunk's context.

    Attributes:
        decode: (number of decodes, context tokens of each), for each group of decodes.
        prefill_context: Prompt tokens before the chunk.
    """

    decode: Sequence[tuple[int, int]]
    prefill_context: int

    @property
    def num_decodes(self) -> int:
        """Decodes in the batch."""
        return sum(count for count, _ in self.decode)

    def batch(self, num_tokens: int) -> Batch:
        """Return a batch of `num_tokens` tokens, decodes included."""
        chunk = num_tokens - self.num_decodes
        return Batch.of([(chunk, self.prefill_context)] if chunk > 0 else [], self.decode)


@dataclass(frozen=True)
class Curve:
    """Iteration time over batch tokens.

    Attributes:
        tokens: Tokens of the batch, decodes included, increasing.
        seconds: Iteration time through all stages.
    """

    tokens: Sequence[int]
    seconds: Sequence[float]


def measure(times: StageTimes, load: IterationLoad, tile: int, max_tokens: int) -> Curve:
    """Return the iteration time over tokens.

    Points are `STEP` tokens apart, and at every tile.

    Args:
        times: Stage times of the deployment.
        load: Decodes and context; the curve starts at the decodes alone.
        tile: Tokens of a tile.
        max_tokens: Last point of the curve.
    """
    first = max(1, load.num_decodes)
    grid = {*range(first, max_tokens + 1, STEP), *range(tile, max_tokens + 1, tile), max_tokens}
    tokens = sorted(count for count in grid if count >= first)
    return Curve(tokens, [sum(times(load.batch(count))) for count in tokens])


def largest_budget(curve: Curve, bound_s: float, tile: int) -> int | None:
    """Return the largest budget up to which every iteration meets a bound.

    It is a multiple of a tile; None if no multiple meets the bound.

    A budget must leave room for a prefill, so the decodes alone do not count.
    """
    best = None
    for count, seconds in zip(curve.tokens, curve.seconds, strict=True):
        if seconds > bound_s:
            break
        if count % tile == 0 and count > curve.tokens[0]:
            best = count
    return best
