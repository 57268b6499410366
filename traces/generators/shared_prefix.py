"""Generated requests of which many begin with one of a few system prompts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.generators.lengths import Lengths
from traces.generators.synthetic import require_count, require_total, stratified_lengths
from traces.shared.value_checks import integer, number
from traces.trace import PrefixBlocks, Trace, joined_ranges

Ints = NDArray[np.int64]
_MOST = 10**7


@dataclass(frozen=True)
class SharedPrefix:
    """Groups of requests that begin with the same system prompt, and requests that have nothing in common.

    Exactly round(share * num_requests) requests begin with a system prompt; each group gets its part of them, to
    one request. The order is random, lengths come from a stratified draw.

    Attributes:
        prompt: Distribution of the lengths of prompts behind the system prompt, or without one, before the cut.
        output: Distribution of the output lengths.
        max_total_tokens: Longest prompt, its system prompt included, and output together, see
            `traces.generators.Synthetic`. None: no cut.
        num_requests: Requests to generate.
        num_groups: System prompts.
        prefix_tokens: Length of each system prompt, tokens.
        share: Share of the requests that begin with a system prompt, 0 to 1.
        zipf: The k-th group is as popular as k**-zipf; 0: all the same.
        block_tokens: Tokens of a prefix block. A block is shared only if the system prompt fills it.
    """

    prompt: Lengths
    output: Lengths
    max_total_tokens: int | None
    num_requests: int = 512
    num_groups: int = 8
    prefix_tokens: int = 1024
    share: float = 0.8
    zipf: float = 0.0
    block_tokens: int = 16

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_count("num_requests", self.num_requests)
        for name in ("num_groups", "prefix_tokens", "block_tokens"):
            integer(name, getattr(self, name), 1, _MOST)
        number("share", self.share, 0, 1)
        number("zipf", self.zipf, 0, 10)
        require_total(self.max_total_tokens, self.prefix_tokens + 2, " (prefix_tokens and 2 more)")

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests."""
        of_groups, of_lengths = rng.spawn(2)
        group = self._groups(of_groups)
        shared = np.where(group < 0, 0, self.prefix_tokens)
        longest = None if self.max_total_tokens is None else (self.max_total_tokens - shared).astype(np.float64)
        own, output = stratified_lengths(self.prompt, self.output, longest, self.num_requests, of_lengths)
        return Trace(shared + own, output, prefix=self._blocks(group, shared + own))

    def _groups(self, rng: np.random.Generator) -> Ints:
        """Draw the group of each request, -1: none: int64[num_requests]. Groups without a request are the last."""
        count = round(self.share * self.num_requests)
        weights = np.arange(1, self.num_groups + 1, dtype=np.float64) ** -self.zipf
        expected = count * weights / weights.sum()
        sizes = np.floor(expected).astype(np.int64)
        # What is left goes to the largest remainders, so that no group gets less than one that is less popular.
        sizes[np.argsort(sizes - expected, kind="stable")[: count - sizes.sum()]] += 1
        numbers = np.repeat(np.arange(self.num_groups), sizes)
        return rng.permutation(np.concatenate([numbers, np.full(self.num_requests - count, -1)]))

    def _blocks(self, group: Ints, prompt_tokens: Ints) -> PrefixBlocks:
        """Number the full blocks of the prompts: those of the groups from 0 on, then those of one request each.

        ids of a request | of its group: first, first + 1, ... | its own: first, first + 1, ... |
        """
        of_group = self.prefix_tokens // self.block_tokens
        num_blocks = prompt_tokens // self.block_tokens
        num_shared = np.where(group < 0, 0, of_group)
        num_own = num_blocks - num_shared
        first_own = of_group * (int(group.max()) + 1) + np.cumsum(num_own) - num_own
        first = np.column_stack([np.maximum(group, 0) * of_group, first_own]).ravel()
        ids = joined_ranges(first, np.column_stack([num_shared, num_own]).ravel())
        return PrefixBlocks.of_lengths(ids, num_blocks, self.block_tokens)
