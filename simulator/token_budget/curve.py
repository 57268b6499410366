"""Iteration time against the tokens of a batch: Sarathi-Serve's one-time profiling."""

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.iteration_time import StageTimes
from simulator.replica import Batch

STEP = 8  # tokens between two points of the curve


@dataclass(frozen=True)
class IterationLoad:
    """What shares an iteration with the prefill chunk.

    Attributes:
        decode: How many decodes, and the tokens in the KV cache of each, for each group of them.
        prefill_context: Tokens of the prompt before the chunk.
    """

    decode: Sequence[tuple[int, int]]
    prefill_context: int

    @property
    def num_decodes(self) -> int:
        """Decodes in the batch."""
        return sum(count for count, _ in self.decode)

    def batch(self, num_tokens: int) -> Batch:
        """Return a batch of so many tokens, decodes included."""
        chunk = num_tokens - self.num_decodes
        return Batch.of([(chunk, self.prefill_context)] if chunk > 0 else [], self.decode)


@dataclass(frozen=True)
class Curve:
    """Iteration time by the tokens of a batch.

    Attributes:
        tokens: Tokens, decodes included, increasing.
        seconds: Time of the iteration through all stages.
    """

    tokens: Sequence[int]
    seconds: Sequence[float]


def measure(times: StageTimes, load: IterationLoad, tile: int, max_tokens: int) -> Curve:
    """Return the curve from the decodes alone up to a number of tokens, on a fine grid and at every tile.

    Args:
        times: Stage times of the deployment.
        load: What shares the iteration.
        tile: Tokens of a tile.
        max_tokens: Where the curve ends.
    """
    first = max(1, load.num_decodes)
    grid = {*range(first, max_tokens + 1, STEP), *range(tile, max_tokens + 1, tile), max_tokens}
    tokens = sorted(count for count in grid if count >= first)
    return Curve(tokens, [sum(times(load.batch(count))) for count in tokens])


def largest_budget(curve: Curve, bound_s: float, tile: int) -> int | None:
    """Return the largest multiple of a tile up to which every iteration is within a bound; None: there is none.

    A budget has to leave room for a prefill, or it would be no budget: decodes alone do not count.
    """
    best = None
    for count, seconds in zip(curve.tokens, curve.seconds, strict=True):
        if seconds > bound_s:
            break
        if count % tile == 0 and count > curve.tokens[0]:
            best = count
    return best
