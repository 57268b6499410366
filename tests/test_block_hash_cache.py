"""The block hash cache against a slow model in which every KV block is an object."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.kv_cache import BlockHashCache, BlockHashes
from traces import PrefixBlocks, Trace

# Block hashes of each request, equal where whole prefixes are equal.
Hashes = list[list[int]]


def cache_of(hashes: Hashes) -> BlockHashCache:
    """Build an empty cache for requests with these block hashes, of one token per block."""
    lengths = np.array([len(row) for row in hashes])
    ids = np.array([block_hash for row in hashes for block_hash in row])
    trace = Trace(lengths - 1, np.ones_like(lengths), prefix=PrefixBlocks.of_lengths(ids, lengths))
    return BlockHashCache(BlockHashes.of(trace, 1))


@dataclass(eq=False)
class Block:
    """A hashed KV block."""

    block_hash: int
    ref_count: int = 0


class SlowCache:
    """Obvious model of the cache: lists of blocks by hash, by request, and of evictable ones in order of eviction."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self.cached: dict[int, list[Block]] = {}
        self.referenced: dict[int, list[Block]] = {}
        self.evictable: list[Block] = []

    def match(self, request: int, max_blocks: int) -> list[Block]:
        matches = []
        for block_hash in self.hashes[request][:max_blocks]:
            if block_hash not in self.cached:
                break
            matches.append(self.cached[block_hash][0])
        return matches

    def acquire(self, request: int, num_blocks: int) -> None:
        self.referenced[request] = self.match(request, num_blocks)
        for block in self.referenced[request]:
            block.ref_count += 1
            if block in self.evictable:
                self.evictable.remove(block)

    def cache_blocks(self, request: int, num_blocks: int) -> None:
        for block_hash in self.hashes[request][len(self.referenced[request]) : num_blocks]:
            block = Block(block_hash, 1)
            self.cached.setdefault(block_hash, []).append(block)
            self.referenced[request].append(block)

    def release(self, request: int) -> None:
        for block in reversed(self.referenced.pop(request)):
            block.ref_count -= 1
            if block.ref_count == 0:
                self.evictable.append(block)

    def evict_to(self, num_blocks: int) -> None:
        while len(self.evictable) > num_blocks:
            block = self.evictable.pop(0)
            self.cached[block.block_hash].remove(block)
            if not self.cached[block.block_hash]:
                del self.cached[block.block_hash]


class Pair:
    """A cache and its slow model, which take the same steps."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self.fast = cache_of(hashes)
        self.slow = SlowCache(hashes)

    def grow(self, request: int, amount: int) -> None:
        """Cache `amount` more blocks of a request, or acquire at most `amount` cached blocks for a new one."""
        if request in self.slow.referenced:
            num_blocks = min(len(self.slow.referenced[request]) + amount, len(self.hashes[request]))
            self.fast.cache_blocks(request, num_blocks)
            self.slow.cache_blocks(request, num_blocks)
            return
        matches = self.slow.match(request, amount)
        num_evictable = sum(block.ref_count == 0 for block in matches)
        assert self.fast.match(request, amount) == (len(matches), num_evictable)
        assert self.fast.acquire(request, len(matches)) == num_evictable
        self.slow.acquire(request, len(matches))

    def release(self, request: int, amount: int) -> None:
        if request in self.slow.referenced:
            before = len(self.slow.evictable)
            self.slow.release(request)
            assert self.fast.release(request) == len(self.slow.evictable) - before
            if amount % 2:
                self.fast.forget(request)

    def evict(self, request: int, amount: int) -> None:
        before = len(self.slow.evictable)
        self.slow.evict_to(amount)
        assert self.fast.evict_to(amount) == before - len(self.slow.evictable)

    def check(self) -> None:
        assert self.fast.num_evictable == len(self.slow.evictable)
        assert self.fast.num_cached_hashes == len(self.slow.cached)
        for request in range(len(self.hashes)):
            for max_blocks in (len(self.hashes[request]), len(self.hashes[request]) // 2):
                matches = self.slow.match(request, max_blocks)
                num_evictable = sum(block.ref_count == 0 for block in matches)
                assert self.fast.match(request, max_blocks) == (len(matches), num_evictable)
        for request, blocks in self.slow.referenced.items():
            assert self.fast.num_cached(request) == len(blocks)
            ref_counts = [
                count for _, first, end, count in self.fast.referenced_spans(request) for _ in range(end - first)
            ]
            assert ref_counts == [block.ref_count for block in blocks]


@st.composite
def families(draw: st.DrawFn) -> Hashes:
    """Draw the block hashes of requests, many of which share a prefix with an earlier one or equal it."""
    hashes: Hashes = []
    num_hashes = 0
    for _ in range(draw(st.integers(1, 7))):
        earlier = draw(st.sampled_from(hashes)) if hashes else []
        prefix = earlier[: draw(st.integers(0, len(earlier)))]
        num_new = draw(st.integers(0 if len(prefix) > 1 else 2, 9))
        hashes.append([*prefix, *range(num_hashes, num_hashes + num_new)])
        num_hashes += num_new
    return hashes


STEPS = st.tuples(
    st.sampled_from([Pair.grow, Pair.grow, Pair.grow, Pair.release, Pair.evict]), st.integers(0, 6), st.integers(0, 12)
)


@given(families(), st.lists(STEPS, max_size=60))
@settings(max_examples=500, deadline=None)
def test_the_cache_does_what_its_slow_model_does(hashes: Hashes, steps: list[tuple[object, int, int]]) -> None:
    pair = Pair(hashes)
    for step, request, amount in steps:
        assert callable(step)
        step(pair, request % len(hashes), amount)
        pair.check()


def cache_after(hashes: Hashes, *requests: int) -> BlockHashCache:
    """Build a cache that has served some requests one after another."""
    cache = cache_of(hashes)
    for request in requests:
        cache.acquire(request, cache.match(request, len(hashes[request]))[0])
        cache.cache_blocks(request, len(hashes[request]))
        cache.release(request)
    return cache


def test_blocks_of_a_finished_request_match_from_its_beginning() -> None:
    cache = cache_after([[0, 1, 2, 3], [0, 1, 4, 5], [7, 8, 9, 10]], 0)
    assert cache.match(0, 4) == (4, 4)
    assert cache.match(0, 3) == (3, 3)
    assert cache.match(1, 4) == (2, 2)
    assert cache.match(2, 4) == (0, 0)


def test_the_tail_of_the_least_recently_used_request_is_evicted_first() -> None:
    cache = cache_after([[0, 1, 2], [3, 4, 5]], 0, 1)
    assert cache.evict_to(5) == 1
    assert cache.match(0, 3) == (2, 2)
    assert cache.evict_to(2) == 3
    assert cache.match(0, 3) == (0, 0)
    assert cache.match(1, 3) == (2, 2)


def test_a_cache_hit_is_evicted_last() -> None:
    cache = cache_after([[0, 1, 2], [3, 4, 5]], 0, 1, 0)
    cache.evict_to(3)
    assert cache.match(0, 3) == (3, 3)
    assert cache.match(1, 3) == (0, 0)


def test_referenced_blocks_are_not_evicted() -> None:
    cache = cache_after([[0, 1, 2], [0, 1, 3]], 0)
    assert cache.acquire(1, 2) == 2
    assert cache.evict_to(0) == 1
    assert cache.match(0, 3) == (2, 0)
    assert cache.release(1) == 2


def test_a_hash_of_two_blocks_is_cached_until_both_are_evicted() -> None:
    # Two requests compute the same prefix at once, so neither hits the blocks of the other.
    cache = cache_of([[0, 1], [0, 1]])
    for request in (0, 1):
        cache.acquire(request, 0)
    for request in (0, 1):
        cache.cache_blocks(request, 2)
        cache.release(request)
    assert (cache.num_cached_hashes, cache.num_evictable) == (2, 4)
    assert cache.match(0, 2) == (2, 2)
    assert cache.evict_to(2) == 2
    assert (cache.num_cached_hashes, cache.match(0, 2)) == (2, (2, 2))
    assert cache.evict_to(1) == 1
    assert (cache.num_cached_hashes, cache.match(0, 2)) == (1, (1, 1))


def test_a_shared_block_is_evictable_after_both_requests_released_it() -> None:
    cache = cache_of([[0, 1, 2], [0, 1, 3]])
    cache.acquire(0, 0)
    cache.cache_blocks(0, 2)
    assert cache.acquire(1, 2) == 0
    assert cache.release(0) == 0
    assert cache.match(0, 3) == (2, 0)
    assert cache.release(1) == 2


def test_nothing_matches_after_the_cache_is_cleared() -> None:
    cache = cache_after([[0, 1, 2]], 0)
    cache.acquire(0, 2)
    cache.clear()
    assert (cache.num_cached_hashes, cache.num_evictable) == (0, 0)
    assert cache.match(0, 3) == (0, 0)
    assert cache.acquire(0, 0) == 0


@pytest.mark.parametrize("num_blocks", [1000, 100_000])
def test_a_long_prompt_is_stored_as_its_shared_parts(num_blocks: int) -> None:
    hashes = [list(range(num_blocks)), [*range(num_blocks // 2), *range(num_blocks, 2 * num_blocks)]]
    cache = cache_after(hashes, 0)
    cache.acquire(1, num_blocks // 2)
    cache.cache_blocks(1, len(hashes[1]))
    # The common prefix, and the rest.
    assert len(list(cache.referenced_spans(1))) == 2
    assert cache.match(0, num_blocks) == (num_blocks, num_blocks - num_blocks // 2)
