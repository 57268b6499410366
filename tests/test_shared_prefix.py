"""Requests that share system prompts: groups, prefix blocks and lengths."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.config import ConfigError, load_config
from traces import PrefixBlocks, Trace
from traces.generators import LogNormal, SharedPrefix, Uniform

SOURCE = SharedPrefix(LogNormal(200, 0.8), LogNormal(100, 0.5), None, num_requests=1000)


def load(source: SharedPrefix, seed: int = 0) -> tuple[Trace, PrefixBlocks]:
    trace = source.load(np.random.default_rng(seed))
    assert trace.prefix is not None
    return trace, trace.prefix


def group_of_each(source: SharedPrefix, blocks: PrefixBlocks) -> list[int]:
    """Return the group of each request, -1: none, by its first block.

    A system prompt must fill a block. The number of repeated blocks gives the number of groups.
    """
    whole = source.prefix_tokens // source.block_tokens
    num_repeated, rest = divmod(len(blocks.ids) - len(np.unique(blocks.ids)), whole)
    assert rest == 0
    num_groups = round(source.share * source.num_requests) - num_repeated
    assert num_groups <= source.num_groups
    first = [int(min(blocks.of(request), default=whole * num_groups)) for request in range(len(blocks))]
    return [block // whole if block < whole * num_groups else -1 for block in first]


def sizes_of_groups(source: SharedPrefix) -> list[int]:
    group = np.array(group_of_each(source, load(source)[1]))
    return [int(size) for size in np.bincount(group[group >= 0])]


SOURCES = st.builds(
    SharedPrefix,
    prompt=st.sampled_from([LogNormal(40, 1), Uniform(1, 3), Uniform(20, 90)]),
    output=st.just(LogNormal(20, 1)),
    max_total_tokens=st.sampled_from([None, 150]),
    num_requests=st.integers(1, 60),
    num_groups=st.integers(1, 9),
    prefix_tokens=st.integers(1, 100),
    share=st.floats(0, 1),
    zipf=st.sampled_from([0, 1, 2.5]),
    block_tokens=st.integers(1, 20),
)


@given(SOURCES, st.integers(0, 5))
@settings(deadline=None)
def test_exactly_the_blocks_that_a_system_prompt_fills_are_shared(source: SharedPrefix, seed: int) -> None:
    trace, blocks = load(source, seed)
    assert blocks.block_tokens == source.block_tokens
    whole = source.prefix_tokens // source.block_tokens
    num_ids = int(blocks.ids.max(initial=-1)) + 1
    owners: dict[int, list[int]] = {block: [] for block in range(num_ids)}
    for request in range(len(trace)):
        ids = blocks.of(request).tolist()
        assert len(ids) == trace.prompt_tokens[request] // source.block_tokens
        for block in ids:
            owners[block].append(request)
        ends = [index for index, (block, after) in enumerate(pairwise(ids), 1) if after != block + 1]
        assert len(ends) <= 1, "two ranges"
    assert all(owners.values()), "dense"
    num_sharing = round(source.share * source.num_requests)
    groups = group_of_each(source, blocks) if whole else [-1] * len(trace)
    assert sum(group >= 0 for group in groups) == (num_sharing if whole else 0)
    first_own = whole * (max(groups) + 1)
    assert all(len(requests) == 1 for block, requests in owners.items() if block >= first_own), "ids of groups first"
    for request, group in enumerate(groups):
        num_shared = 0 if group < 0 else whole
        shared, own = np.split(blocks.of(request), [num_shared])
        assert shared.tolist() == list(range(group * whole, group * whole + num_shared))
        assert all(own >= first_own)


@pytest.mark.parametrize("share", [0, 0.25, 0.3333, 0.8, 1])
def test_the_configured_share_of_requests_begins_with_a_system_prompt(share: float) -> None:
    assert sum(sizes_of_groups(replace(SOURCE, share=share))) == round(share * 1000)


def test_groups_are_equally_popular_by_default() -> None:
    assert sizes_of_groups(replace(SOURCE, num_groups=7, share=1)) == [143] * 6 + [142]


@pytest.mark.parametrize("zipf", [0.5, 1.0, 2.0])
def test_group_popularity_falls_with_a_power_of_the_rank(zipf: float) -> None:
    sizes = sizes_of_groups(replace(SOURCE, num_requests=5000, num_groups=20, share=1, zipf=zipf))
    expected = np.arange(1, 21) ** -zipf
    assert sizes == sorted(sizes, reverse=True)
    assert sizes == pytest.approx(5000 * expected / expected.sum(), abs=1)


def test_groups_without_requests_have_no_blocks() -> None:
    few = replace(SOURCE, num_requests=10, num_groups=8, share=0.5)
    assert sizes_of_groups(few) == [1] * 5
    blocks = load(few)[1]
    assert np.array_equal(np.unique(blocks.ids), np.arange(blocks.ids.max() + 1))


def test_the_block_in_which_a_system_prompt_ends_is_not_shared() -> None:
    for prefix_tokens, shared in ((31, 1), (32, 2), (33, 2), (15, 0)):
        source = replace(SOURCE, num_groups=1, share=1, prefix_tokens=prefix_tokens, prompt=Uniform(100, 100))
        blocks = load(source)[1]
        assert len(np.intersect1d(blocks.of(0), blocks.of(1))) == shared


def test_lengths_after_the_system_prompts_have_the_quantiles_of_their_distributions() -> None:
    source = replace(SOURCE, num_requests=20_000, prefix_tokens=500)
    trace, blocks = load(source)
    sharing = np.array(group_of_each(source, blocks)) >= 0
    after_prefix = trace.prompt_tokens - np.where(sharing, 500, 0)
    assert after_prefix.min() >= 1
    assert np.median(after_prefix) == pytest.approx(200, abs=1)
    assert np.median(after_prefix[sharing]) == pytest.approx(200, rel=0.03)
    assert np.quantile(trace.output_tokens, 0.9) == pytest.approx(100 * np.exp(0.5 * 1.2816), rel=0.01)


@pytest.mark.parametrize("cut", [1026, 1500])
def test_max_total_tokens_counts_the_system_prompt(cut: int) -> None:
    trace = load(replace(SOURCE, max_total_tokens=cut))[0]
    assert (trace.prompt_tokens + trace.output_tokens).max() <= cut
    assert np.count_nonzero(trace.prompt_tokens > 1024) >= 800


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, repeated, other_seed = (load(SOURCE, seed) for seed in (3, 3, 4))
    for loaded in (repeated, other_seed):
        same = first[0].prompt_tokens.tobytes() == loaded[0].prompt_tokens.tobytes()
        assert same == (first[1].ids.tobytes() == loaded[1].ids.tobytes()) == (loaded is repeated)


def test_block_ids_take_four_bytes_where_they_fit() -> None:
    assert load(SOURCE)[1].ids.dtype == np.int32


def test_a_configuration_loads_the_trace() -> None:
    trace = load_config("trace=shared_prefix", "trace.num_groups=3", "trace.prefix_tokens=64")["trace"]
    assert len(trace) == 512
    assert trace.prefix.block_tokens == 16


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("num_requests=0", "num_requests must be an integer from 1 to 100000000, got 0"),
        ("num_groups=0", "num_groups must be an integer from 1 to 10000000, got 0"),
        ("num_groups=2.5", "num_groups must be an integer from 1 to 10000000, got 2.5"),
        ("prefix_tokens=-1", "prefix_tokens must be an integer from 1 to 10000000, got -1"),
        ("block_tokens=null", "block_tokens must be an integer from 1 to 10000000, got None"),
        ("share=1.2", "share must be a number from 0 to 1, got 1.2"),
        ("share=nan", "share must be a number from 0 to 1, got nan"),
        ("zipf=-1", "zipf must be a number from 0 to 10, got -1"),
        (
            "max_total_tokens=1025",
            "max_total_tokens (prefix_tokens and at least 2 more) must be an integer of at least 1026 or null, got",
        ),
        ("prompt.median=0", "prompt.median must be a finite number above 0, got 0"),
        ("groups=3", "groups is not a key"),
    ],
)
def test_values_out_of_range_are_named(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("trace=shared_prefix", f"trace.{override}")
    assert str(error.value).startswith(f"trace.{complaint}")
    assert "\n" not in str(error.value)
