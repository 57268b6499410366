"""Generated requests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from traces.checks import require_integer
from traces.lengths import Lengths
from traces.trace import Trace

_LARGEST = 10**8
Levels = NDArray[np.float64]


def require_count(name: str, value: int) -> None:
    """Check a number of requests or tokens.

    Raises:
        ValueError: It is none.
    """
    require_integer(name, value, 1, _LARGEST)


def stratified_levels(count: int, rng: np.random.Generator) -> Levels:
    """Levels between 0 and 1 in random order, one in each of `count` equal parts.

    A sample drawn at these levels has the quantiles of its distribution without the noise of
    independent draws.
    """
    return rng.permutation((np.arange(count) + rng.random(count)) / count)


@dataclass(frozen=True)
class Synthetic:
    """Prompt and output lengths of two distributions, cut by their sum, by a stratified draw.

    Attributes:
        prompt: Distribution of the prompt lengths before the cut.
        output: Distribution of the output lengths.
        max_total_tokens: Longest prompt and output together: prompts are drawn from the part of their
            distribution that leaves room for the output. None: no cut.
        num_requests: Requests to generate.
        rank_correlation: Spearman's correlation of prompt and output before the cut, by a Gaussian copula.
    """

    prompt: Lengths
    output: Lengths
    max_total_tokens: int | None
    num_requests: int = 512
    rank_correlation: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_count("num_requests", self.num_requests)
        cut, correlation = self.max_total_tokens, self.rank_correlation
        if cut is not None and (not isinstance(cut, int) or isinstance(cut, bool) or cut < 2):
            raise ValueError(f"max_total_tokens must be an integer of at least 2 or null, got {cut!r}")
        if not isinstance(correlation, int | float) or isinstance(correlation, bool) or not -1 < correlation < 1:
            raise ValueError(f"rank_correlation must be a number above -1 and below 1, got {correlation!r}")

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests."""
        cut = self.max_total_tokens
        output_levels = stratified_levels(self.num_requests, rng)
        output = np.rint(self.output.quantile(output_levels))
        output = np.clip(output, 1, _LARGEST if cut is None else cut - 1)
        room = np.full(self.num_requests, float(_LARGEST)) if cut is None else cut - output
        levels = stratified_levels(self.num_requests, rng)
        if self.rank_correlation:
            levels = _correlated(output_levels, levels, self.rank_correlation, rng)
        prompt = np.rint(self.prompt.quantile(levels if cut is None else levels * self.prompt.level(room)))
        return Trace(np.clip(prompt, 1, room).astype(np.int64), output.astype(np.int64))


def _correlated(first: Levels, second: Levels, rank_correlation: float, rng: np.random.Generator) -> Levels:
    """Return the second levels in an order that is correlated with the first."""
    correlation = 2 * np.sin(np.pi * rank_correlation / 6)  # of the normal variables of the copula
    noise = rng.standard_normal(len(first))
    ranks = np.argsort(np.argsort(correlation * ndtri(first) + np.sqrt(1 - correlation**2) * noise))
    return np.asarray(np.sort(second)[ranks])


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
            require_count(name, getattr(self, name))

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests."""
        shape = self.num_requests
        return Trace(
            np.full(shape, self.prompt_tokens, dtype=np.int64), np.full(shape, self.output_tokens, dtype=np.int64)
        )
