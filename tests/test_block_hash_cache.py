"""The prefix cache against a model of it in which every KV block is an object."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.kv_cache import BlockHashCache, BlockHashes
from traces import PrefixBlocks, Trace

# Of each request: what its blocks hold, equal numbers where whole prefixes are equal.
Blocks = list[list[int]]


def cache_of(blocks: Blocks) -> BlockHashCache:
    """An empty cache for requests with such blocks, of one token each."""
    lengths = np.array([len(one) for one in blocks])
    ids = np.array([label for one in blocks for label in one])
    trace = Trace(lengths - 1, np.ones_like(lengths), prefix=PrefixBlocks.of_lengths(ids, lengths))
    return BlockHashCache(BlockHashes.of(trace, 1))


@dataclass(eq=False)
class Block:
    """A labelled KV block."""

    label: int
    ref_count: int = 0


class SlowCache:
    """Labelled blocks one by one: in lists of those that carry a label, that a request holds, and that nobody holds."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.carriers: dict[int, list[Block]] = {}
        self.held: dict[int, list[Block]] = {}
        self.unheld: list[Block] = []

    def find(self, request: int, most_blocks: int) -> list[Block]:
        found = []
        for label in self.blocks[request][:most_blocks]:
            if label not in self.carriers:
                break
            found.append(self.carriers[label][0])
        return found

    def admit(self, request: int, num_blocks: int) -> None:
        self.held[request] = self.find(request, num_blocks)
        for block in self.held[request]:
            block.ref_count += 1
            if block in self.unheld:
                self.unheld.remove(block)

    def label(self, request: int, num_blocks: int) -> None:
        for label in self.blocks[request][len(self.held[request]) : num_blocks]:
            block = Block(label, 1)
            self.carriers.setdefault(label, []).append(block)
            self.held[request].append(block)

    def release(self, request: int) -> None:
        for block in reversed(self.held.pop(request)):
            block.ref_count -= 1
            if block.ref_count == 0:
                self.unheld.append(block)

    def evict_to(self, num_blocks: int) -> None:
        while len(self.unheld) > num_blocks:
            block = self.unheld.pop(0)
            self.carriers[block.label].remove(block)
            if not self.carriers[block.label]:
                del self.carriers[block.label]


class Pair:
    """A cache and its slow model, to which the same is done."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.fast = cache_of(blocks)
        self.slow = SlowCache(blocks)

    def grow(self, request: int, amount: int) -> None:
        """Admit a request with what it finds, but no more than so much; or label so many more blocks of it."""
        if request in self.slow.held:
            num_blocks = min(len(self.slow.held[request]) + amount, len(self.blocks[request]))
            self.fast.cache_blocks(request, num_blocks)
            self.slow.label(request, num_blocks)
            return
        found = self.slow.find(request, amount)
        num_evictable = sum(block.ref_count == 0 for block in found)
        assert self.fast.match(request, amount) == (len(found), num_evictable)
        assert self.fast.acquire(request, len(found)) == num_evictable
        self.slow.admit(request, len(found))

    def release(self, request: int, amount: int) -> None:
        if request in self.slow.held:
            before = len(self.slow.unheld)
            self.slow.release(request)
            assert self.fast.release(request) == len(self.slow.unheld) - before
            if amount % 2:
                self.fast.free_block_hashes(request)

    def shrink(self, request: int, amount: int) -> None:
        before = len(self.slow.unheld)
        self.slow.evict_to(amount)
        assert self.fast.evict_to(amount) == before - len(self.slow.unheld)

    def check(self) -> None:
        assert self.fast.num_evictable == len(self.slow.unheld)
        assert self.fast.num_cached_hashes == len(self.slow.carriers)
        for request in range(len(self.blocks)):
            for most_blocks in (len(self.blocks[request]), len(self.blocks[request]) // 2):
                found = self.slow.find(request, most_blocks)
                num_evictable = sum(block.ref_count == 0 for block in found)
                assert self.fast.match(request, most_blocks) == (len(found), num_evictable)
        for request, held in self.slow.held.items():
            assert self.fast.num_cached(request) == len(held)
            holders = [
                count for _, first, end, count in self.fast.referenced_spans(request) for _ in range(end - first)
            ]
            assert holders == [block.ref_count for block in held]


@st.composite
def families(draw: st.DrawFn) -> Blocks:
    """Requests of which many begin as an earlier one does, or are the same."""
    found: Blocks = []
    num_cached_hashes = 0
    for _ in range(draw(st.integers(1, 7))):
        begun = draw(st.sampled_from(found)) if found else []
        kept = begun[: draw(st.integers(0, len(begun)))]
        num_new = draw(st.integers(0 if len(kept) > 1 else 2, 9))
        found.append([*kept, *range(num_cached_hashes, num_cached_hashes + num_new)])
        num_cached_hashes += num_new
    return found


STEPS = st.tuples(
    st.sampled_from([Pair.grow, Pair.grow, Pair.grow, Pair.release, Pair.shrink]), st.integers(0, 6), st.integers(0, 12)
)


@given(families(), st.lists(STEPS, max_size=60))
@settings(max_examples=500, deadline=None)
def test_it_is_as_if_every_block_were_an_object(blocks: Blocks, steps: list[tuple[object, int, int]]) -> None:
    pair = Pair(blocks)
    for step, request, amount in steps:
        assert callable(step)
        step(pair, request % len(blocks), amount)
        pair.check()


def held_once(blocks: Blocks, *requests: int) -> BlockHashCache:
    """A cache after some requests came and went, one after the other."""
    cache = cache_of(blocks)
    for request in requests:
        cache.acquire(request, cache.match(request, len(blocks[request]))[0])
        cache.cache_blocks(request, len(blocks[request]))
        cache.release(request)
    return cache


def test_what_a_request_leaves_is_found_from_its_beginning_on() -> None:
    cache = held_once([[0, 1, 2, 3], [0, 1, 4, 5], [7, 8, 9, 10]], 0)
    assert cache.match(0, 4) == (4, 4)
    assert cache.match(0, 3) == (3, 3)
    assert cache.match(1, 4) == (2, 2)
    assert cache.match(2, 4) == (0, 0)


def test_the_end_of_what_was_held_least_lately_is_reused_first() -> None:
    cache = held_once([[0, 1, 2], [3, 4, 5]], 0, 1)
    assert cache.evict_to(5) == 1
    assert cache.match(0, 3) == (2, 2)
    assert cache.evict_to(2) == 3
    assert cache.match(0, 3) == (0, 0)
    assert cache.match(1, 3) == (2, 2)


def test_what_is_found_becomes_the_last_to_be_reused() -> None:
    cache = held_once([[0, 1, 2], [3, 4, 5]], 0, 1, 0)
    cache.evict_to(3)
    assert cache.match(0, 3) == (3, 3)
    assert cache.match(1, 3) == (0, 0)


def test_held_blocks_are_not_reused() -> None:
    cache = held_once([[0, 1, 2], [0, 1, 3]], 0)
    assert cache.acquire(1, 2) == 2
    assert cache.evict_to(0) == 1
    assert cache.match(0, 3) == (2, 0)
    assert cache.release(1) == 2


def test_a_label_on_two_blocks_is_lost_with_the_second_one() -> None:
    # Two requests compute the same at once, and neither knows of the other.
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


def test_a_block_of_two_requests_is_free_when_both_have_released_it() -> None:
    cache = cache_of([[0, 1, 2], [0, 1, 3]])
    cache.acquire(0, 0)
    cache.cache_blocks(0, 2)
    assert cache.acquire(1, 2) == 0
    assert cache.release(0) == 0
    assert cache.match(0, 3) == (2, 0)
    assert cache.release(1) == 2


def test_nothing_is_found_after_everything_was_lost() -> None:
    cache = held_once([[0, 1, 2]], 0)
    cache.acquire(0, 2)
    cache.clear()
    assert (cache.num_cached_hashes, cache.num_evictable) == (0, 0)
    assert cache.match(0, 3) == (0, 0)
    assert cache.acquire(0, 0) == 0


@pytest.mark.parametrize("num_blocks", [1000, 100_000])
def test_a_long_prompt_costs_as_much_as_its_shared_parts(num_blocks: int) -> None:
    blocks = [list(range(num_blocks)), [*range(num_blocks // 2), *range(num_blocks, 2 * num_blocks)]]
    cache = held_once(blocks, 0)
    cache.acquire(1, num_blocks // 2)
    cache.cache_blocks(1, len(blocks[1]))
    # What both begin with, and the rest.
    assert len(list(cache.referenced_spans(1))) == 2
    assert cache.match(0, num_blocks) == (num_blocks, num_blocks - num_blocks // 2)
