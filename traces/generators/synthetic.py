"""Generated requests: independent lengths, and equal lengths."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from traces.generators.lengths import Lengths
from traces.shared.value_checks import each, integer, number
from traces.trace import Trace

_LARGEST = 10**8
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def require_count(name: str, value: int) -> None:
    """Check a number of requests or tokens.

    Raises:
        ValueError: It is not an integer from 1 to 1e8.
    """
    integer(name, value, 1, _LARGEST)


def stratified_levels(count: int, rng: np.random.Generator) -> Floats:
    """Draw stratified levels between 0 and 1, in random order.

    Each of `count` equal parts has one level. A sample at these levels has the quantiles of its distribution without
    the noise of independent draws.

    Returns:
        float64[count].
    """
    return rng.permutation((np.arange(count) + rng.random(count)) / count)


def stratified_lengths(
    prompt: Lengths,
    output: Lengths,
    longest: Floats | None,
    count: int,
    rng: np.random.Generator,
    rank_correlation: float = 0.0,
) -> tuple[Ints, Ints]:
    """Draw prompt and output lengths at stratified levels.

    Prompts are drawn from the part of their distribution that leaves room for the output.

    Args:
        prompt: Distribution of the prompt lengths before the cut.
        output: Distribution of the output lengths.
        longest: float64[count], longest prompt and output together of each request, at least 2; None: no cut.
        count: Number of requests.
        rng: Randomness.
        rank_correlation: Spearman's rank correlation of prompt and output before the cut, by a Gaussian copula.

    Returns:
        int64[count] prompt tokens and int64[count] output tokens, all at least 1.
    """
    output_levels = stratified_levels(count, rng)
    outputs = np.clip(np.rint(output.quantile(output_levels)), 1, _LARGEST if longest is None else longest - 1)
    room = np.full(count, float(_LARGEST)) if longest is None else longest - outputs
    levels = stratified_levels(count, rng)
    if rank_correlation:
        levels = _correlate(output_levels, levels, rank_correlation, rng)
    prompts = np.rint(prompt.quantile(levels if longest is None else levels * prompt.level(room)))
    return np.clip(prompts, 1, room).astype(np.int64), outputs.astype(np.int64)


@dataclass(frozen=True)
class Synthetic:
    """Requests with prompt and output lengths from two distributions.

    Lengths are a stratified sample, see `stratified_levels`.

    Attributes:
        prompt: Distribution of the prompt lengths before the cut.
        output: Distribution of the output lengths.
        max_total_tokens: Longest prompt and output together. Prompts are drawn from the part of their distribution
            that leaves room for the output. None: no cut.
        num_requests: Requests to generate.
        rank_correlation: Spearman's rank correlation of prompt and output before the cut, by a Gaussian copula.
    """

    prompt: Lengths
    output: Lengths
    max_total_tokens: int | None
    num_requests: int = 512
    rank_correlation: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_count("num_requests", self.num_requests)
        integer("max_total_tokens", self.max_total_tokens, 2, optional=True)
        number("rank_correlation", self.rank_correlation, -1, 1, excluding="both")

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests."""
        cut, count = self.max_total_tokens, self.num_requests
        longest = None if cut is None else np.full(count, float(cut))
        return Trace(*stratified_lengths(self.prompt, self.output, longest, count, rng, self.rank_correlation))


def _correlate(first: Floats, second: Floats, rank_correlation: float, rng: np.random.Generator) -> Floats:
    """Reorder the second levels so that they correlate with the first."""
    correlation = 2 * np.sin(np.pi * rank_correlation / 6)  # of the normal variables of the copula
    noise = rng.standard_normal(len(first))
    ranks = np.argsort(np.argsort(correlation * ndtri(first) + np.sqrt(1 - correlation**2) * noise))
    return np.asarray(np.sort(second)[ranks])


@dataclass(frozen=True)
class Fixed:
    """Requests of the same lengths.

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
        each(require_count, self, vars(self))

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests."""
        return Trace(
            np.full(self.num_requests, self.prompt_tokens, dtype=np.int64),
            np.full(self.num_requests, self.output_tokens, dtype=np.int64),
        )
