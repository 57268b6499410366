"""Iteration time over batch tokens: the one-time profiling of Sarathi-Serve."""

from collections.abc import Mapping, Sequence
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


def measure(times: StageTimes, load: IterationLoad, tile: int, max_tokens: int) -> dict[int, float]:
    """Return the iteration time in seconds by tokens of the batch.

    Tokens increase. Points are `STEP` tokens apart, and at every tile.

    Args:
        times: Stage times of the deployment.
        load: Decodes and context; the curve starts at the decodes alone.
        tile: Tokens of a tile.
        max_tokens: Last point of the curve.
    """
    first = max(1, load.num_decodes)
    grid = {*range(first, max_tokens + 1, STEP), *range(tile, max_tokens + 1, tile), max_tokens}
    return {count: sum(times(load.batch(count))) for count in sorted(grid) if count >= first}


def largest_budget(curve: Mapping[int, float], bound_s: float, tile: int) -> int | None:
    """Return the largest budget up to which every iteration meets a bound.

    It is a multiple of a tile; None if no multiple meets the bound.

    A budget must leave room for a prefill, so the decodes alone do not count.
    """
    best = None
    for count, seconds in curve.items():
        if seconds > bound_s:
            break
        if count % tile == 0 and count > min(curve):
            best = count
    return best
