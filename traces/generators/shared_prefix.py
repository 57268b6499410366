"""Generated requests that share system prompts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.generators.lengths import Lengths
from traces.generators.synthetic import require_count, stratified_lengths
from traces.shared.value_checks import each, integer, number
from traces.trace import PrefixBlocks, Trace, join_ranges

Ints = NDArray[np.int64]
_MOST = 10**7


@dataclass(frozen=True)
class SharedPrefix:
    """Groups of requests that share a system prompt, and requests without one.

    Exactly round(share * num_requests) requests have a system prompt. The size of each group is its expected share of
    them, rounded down or up. The order of the requests is random; lengths are a stratified sample.

    Attributes:
        prompt: Distribution of the prompt lengths without the system prompt, before the cut.
        output: Distribution of the output lengths.
        max_total_tokens: Longest prompt, including the system prompt, and output together, see
            `traces.generators.Synthetic`. None: no cut.
        num_requests: Requests to generate.
        num_groups: Number of system prompts.
        prefix_tokens: Length of each system prompt, tokens.
        share: Share of the requests that have a system prompt, 0 to 1.
        zipf: The popularity of the k-th group is proportional to k**-zipf; 0: all equal.
        block_tokens: Tokens per prefix block. Only blocks that the system prompt fills are shared.
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
        each(integer, self, ("num_groups", "prefix_tokens", "block_tokens"), 1, _MOST)
        number("share", self.share, 0, 1)
        number("zipf", self.zipf, 0, 10)
        total = "max_total_tokens (prefix_tokens and at least 2 more)"
        integer(total, self.max_total_tokens, self.prefix_tokens + 2, optional=True)

    def load(self, rng: np.random.Generator) -> Trace:
        """Generate the requests."""
        groups_rng, lengths_rng = rng.spawn(2)
        group = self._draw_groups(groups_rng)
        shared = np.where(group < 0, 0, self.prefix_tokens)
        longest = None if self.max_total_tokens is None else (self.max_total_tokens - shared).astype(np.float64)
        own, output = stratified_lengths(self.prompt, self.output, longest, self.num_requests, lengths_rng)
        return Trace(shared + own, output, prefix=self._number_blocks(group, shared + own))

    def _draw_groups(self, rng: np.random.Generator) -> Ints:
        """Draw the group of each request.

        Returns:
            int64[num_requests], -1 for a request in no group. Any empty groups are the last.
        """
        count = round(self.share * self.num_requests)
        weights = np.arange(1, self.num_groups + 1, dtype=np.float64) ** -self.zipf
        expected = count * weights / weights.sum()
        sizes = np.floor(expected).astype(np.int64)
        # The rest goes to the largest remainders, so that no group is smaller than a less popular one.
        sizes[np.argsort(sizes - expected, kind="stable")[: count - sizes.sum()]] += 1
        groups = np.repeat(np.arange(self.num_groups), sizes)
        return rng.permutation(np.concatenate([groups, np.full(self.num_requests - count, -1)]))

    def _number_blocks(self, group: Ints, prompt_tokens: Ints) -> PrefixBlocks:
        """Number the full blocks of the prompts.

        The blocks of the groups come first, then those of single requests.
        Ids of a request: | of its group: first, first + 1, ... | its own: first, first + 1, ... |
        """
        num_per_group = self.prefix_tokens // self.block_tokens
        num_blocks = prompt_tokens // self.block_tokens
        num_shared = np.where(group < 0, 0, num_per_group)
        num_own = num_blocks - num_shared
        first_own = num_per_group * (int(group.max()) + 1) + np.cumsum(num_own) - num_own
        first = np.column_stack([np.maximum(group, 0) * num_per_group, first_own]).ravel()
        ids = join_ranges(first, np.column_stack([num_shared, num_own]).ravel())
        return PrefixBlocks.of_lengths(ids, num_blocks, self.block_tokens)
