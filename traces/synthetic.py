"""Generated requests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.lengths import Lengths
from traces.trace import Trace

_LARGEST = 10**8


def _require_count(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
        raise ValueError(f"{name} must be an integer from 1 to {_LARGEST}, got {value!r}")


def stratified_levels(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Levels between 0 and 1 in random order, one in each of `count` equal parts.

    A sample drawn at these levels has the quantiles of its distribution without the noise of
    independent draws.
    """
    return rng.permutation((np.arange(count) + rng.random(count)) / count)


@dataclass(frozen=True)
class Synthetic:
    """Independent prompt and output lengths, cut by their sum, by a stratified draw.

    Attributes:
        prompt: Distribution of the prompt lengths before the cut.
        output: Distribution of the output lengths.
        max_total_tokens: Longest prompt and output together: prompts are drawn from the part of their
            distribution that leaves room for the output.
        num_requests: Requests to generate.
    """

    prompt: Lengths
    output: Lengths
    max_total_tokens: int
    num_requests: int = 512

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_count("num_requests", self.num_requests)
        if not isinstance(self.max_total_tokens, int) or self.max_total_tokens < 2:
            raise ValueError(f"max_total_tokens must be an integer of at least 2, got {self.max_total_tokens!r}")

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests."""
        output = np.rint(self.output.quantile(stratified_levels(self.num_requests, rng)))
        output = np.clip(output, 1, self.max_total_tokens - 1)
        room = self.max_total_tokens - output
        prompt = np.rint(self.prompt.quantile(stratified_levels(self.num_requests, rng) * self.prompt.level(room)))
        return Trace(np.clip(prompt, 1, room).astype(np.int64), output.astype(np.int64))


@dataclass(frozen=True)
class Fixed:
    """Requests of equal lengths.

    Attributes:
        prompt_tokens: Prompt length of each request.
        output_tokens: Output length of each request.
        num_requests: Requests to generate.
    """

    prompt_tokens: int = 1024
    output_tokens: int = 128
    num_requests: int = 512

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("prompt_tokens", "output_tokens", "num_requests"):
            _require_count(name, getattr(self, name))

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests."""
        shape = self.num_requests
        return Trace(
            np.full(shape, self.prompt_tokens, dtype=np.int64), np.full(shape, self.output_tokens, dtype=np.int64)
        )
