"""Block hashes against tokens: hashes are equal where all tokens up to the end of the block are."""

from collections import Counter
from dataclasses import dataclass
from itertools import count, takewhile
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.kv_cache import BlockHashes
from traces import PrefixBlocks, Trace
from traces.generators import ClientClass, Mix

Tokens = tuple[int, ...]


class Request(NamedTuple):
    """Tokens of a request, and the session that it is a turn of; -1: none."""

    prompt: Tokens
    output: Tokens
    session: int = -1

    @property
    def tokens(self) -> Tokens:
        return self.prompt + self.output


def prefixes(tokens: Tokens, size: int, with_partial: bool = False) -> list[Tokens]:
    """Return all tokens up to the end of each full block, and of the last partial one on request."""
    last = len(tokens) + (size if with_partial else 1)
    return [tokens[:end] for end in range(size, last, size)]


def trace_of(requests: list[Request], prefix: PrefixBlocks | None = None) -> Trace:
    has_sessions = any(request.session >= 0 for request in requests)
    return Trace(
        np.array([len(request.prompt) for request in requests]),
        np.array([len(request.output) for request in requests]),
        session=np.array([request.session for request in requests]) if has_sessions else None,
        prefix=prefix,
    )


def prefix_blocks(parts: list[list[Tokens]], block_tokens: int | None) -> PrefixBlocks:
    """Give each prefix an id, equal for equal prefixes."""
    id_of: dict[Tokens, int] = {}
    ids = [id_of.setdefault(tokens, 3 * len(id_of)) for part in parts for tokens in part]
    return PrefixBlocks.of_lengths(np.array(ids, dtype=np.int64), np.array([len(part) for part in parts]), block_tokens)


def of_prompts(requests: list[Request], block_tokens: int) -> Trace:
    """Build a trace with the prefix blocks of the prompts, the last ones partial."""
    parts = [prefixes(request.prompt, block_tokens, with_partial=True) for request in requests]
    return trace_of(requests, prefix_blocks(parts, block_tokens))


def of_prompts_and_outputs(requests: list[Request], block_tokens: int, with_size: bool = True) -> Trace:
    """Build a trace with the full prefix blocks of prompts and outputs."""
    parts = [prefixes(request.tokens, block_tokens) for request in requests]
    return trace_of(requests, prefix_blocks(parts, block_tokens if with_size else None))


def hashes_of(trace: Trace, block_size: int) -> list[list[int]]:
    hashes = BlockHashes.of(trace, block_size)
    return [
        [block_hash for first, length in hashes.runs_of(request) for block_hash in range(first, first + length)]
        for request in range(len(trace))
    ]


def check(requests: list[Request], trace: Trace, block_size: int) -> None:
    """Compare hashes with tokens, block by block."""
    hashes = hashes_of(trace, block_size)
    expected = [prefixes(request.tokens, block_size) for request in requests]
    assert list(map(len, hashes)) == list(map(len, expected))
    pairs = {pair for row, tokens in zip(hashes, expected, strict=True) for pair in zip(row, tokens, strict=True)}
    assert len(pairs) == len({block_hash for block_hash, _ in pairs}) == len({tokens for _, tokens in pairs})
    num_owners = Counter(block_hash for row in hashes for block_hash in row)
    shared = [len(list(takewhile(lambda block_hash: num_owners[block_hash] > 1, row))) for row in hashes]
    assert BlockHashes.of(trace, block_size).num_shared.tolist() == shared


def num_common(trace: Trace, block_size: int, first: int, second: int) -> int:
    """Return the number of leading blocks that two requests share."""
    hashes = hashes_of(trace, block_size)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(hashes[first], hashes[second], strict=False)))


SIZES = st.sampled_from([1, 2, 3, 4, 5, 8, 12, 16])
LENGTHS = st.integers(1, 40)


class Fresh:
    """Source of tokens that it never repeats."""

    def __init__(self) -> None:
        self._next = count()

    def __call__(self, num_tokens: int) -> Tokens:
        return tuple(next(self._next) for _ in range(num_tokens))


@st.composite
def families(draw: st.DrawFn, unit: int) -> list[Request]:
    """Draw requests that begin with whole blocks of an earlier prompt, or have the same one."""
    fresh, requests = Fresh(), list[Request]()
    for _ in range(draw(st.integers(1, 8))):
        prompt: Tokens = draw(st.sampled_from(requests)).prompt if requests else ()
        if not prompt or draw(st.booleans()):
            whole = min(draw(st.integers(0, 6)), len(prompt) // unit) * unit
            prompt = prompt[:whole] + fresh(draw(LENGTHS))
        requests.append(Request(prompt, fresh(draw(LENGTHS))))
    return requests


@st.composite
def families_with_answers(draw: st.DrawFn, unit: int) -> list[Request]:
    """Draw requests that begin with whole blocks of prompt and answer of an earlier one."""
    fresh, requests = Fresh(), list[Request]()
    for _ in range(draw(st.integers(1, 8))):
        earlier = draw(st.sampled_from(requests)).tokens if requests else ()
        whole = min(draw(st.integers(0, 9)), len(earlier) // unit) * unit
        # Shorter answers might fill no block beyond the prompt.
        requests.append(Request(earlier[:whole] + fresh(draw(LENGTHS)), fresh(draw(LENGTHS) + 2 * unit)))
    return requests


@st.composite
def conversations(draw: st.DrawFn, num_common: int = 0, max_turns: int = 9) -> list[Request]:
    """Draw interleaved turns of sessions; a later turn begins with all tokens of the one before it, or with none.

    Args:
        draw: Passed by hypothesis.
        num_common: Tokens that all sessions begin with.
        max_turns: Most turns of a session.
    """
    fresh, requests = Fresh(), list[Request]()
    common, latest, num_turns = fresh(num_common), dict[int, Request](), Counter[int]()
    for session in draw(st.lists(st.sampled_from([-1, 4, 7]), min_size=1, max_size=10)):
        if session >= 0 and num_turns[session] == max_turns:
            continue
        if session < 0 or session not in latest:
            prompt = common + fresh(draw(LENGTHS))
        elif draw(st.integers(0, 3)):
            prompt = latest[session].tokens + fresh(draw(st.integers(0, 20)))
        else:
            prompt = fresh(draw(st.integers(1, len(latest[session].tokens) - 1)))
        requests.append(Request(prompt, fresh(draw(LENGTHS)), session))
        latest[session] = requests[-1]
        num_turns[session] += 1
    return requests


@given(st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=9), SIZES)
@settings(deadline=None)
def test_without_prefix_blocks_or_sessions_all_blocks_differ(lengths: list[tuple[int, int]], size: int) -> None:
    fresh = Fresh()
    requests = [Request(fresh(prompt), fresh(output)) for prompt, output in lengths]
    check(requests, trace_of(requests), size)


@given(conversations(), SIZES)
@settings(max_examples=200, deadline=None)
def test_turns_with_long_enough_prompts_begin_with_the_turn_before(requests: list[Request], size: int) -> None:
    check(requests, trace_of(requests), size)


@given(SIZES, SIZES, st.data())
@settings(max_examples=300, deadline=None)
def test_prefix_blocks_of_prompts_tell_which_prompts_share_blocks(
    block_tokens: int, size: int, data: st.DataObject
) -> None:
    requests = data.draw(families(block_tokens))
    check(requests, of_prompts(requests, block_tokens), size)


@given(SIZES, SIZES, st.data())
@settings(max_examples=300, deadline=None)
def test_prefix_blocks_of_prompts_and_outputs_tell_which_requests_share_blocks(
    block_tokens: int, size: int, data: st.DataObject
) -> None:
    requests = data.draw(families_with_answers(block_tokens))
    check(requests, of_prompts_and_outputs(requests, block_tokens), size)


@given(SIZES, st.data())
@settings(max_examples=100, deadline=None)
def test_prefix_blocks_of_unknown_size_have_the_block_size_of_the_engine(size: int, data: st.DataObject) -> None:
    requests = data.draw(families_with_answers(size))
    check(requests, of_prompts_and_outputs(requests, size, with_size=False), size)


@given(SIZES, SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_the_next_turn_of_a_session_shares_the_answer(block_tokens: int, size: int, data: st.DataObject) -> None:
    requests = data.draw(conversations(block_tokens * data.draw(st.integers(0, 3)), max_turns=2))
    check(requests, of_prompts(requests, block_tokens), size)


@given(SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_all_later_turns_of_a_session_share_the_answer(size: int, data: st.DataObject) -> None:
    requests = data.draw(conversations(size * data.draw(st.integers(0, 3))))
    check(requests, of_prompts(requests, size), size)


@given(SIZES, SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_conversations_share_blocks_if_prefix_blocks_have_another_size(
    block_tokens: int, size: int, data: st.DataObject
) -> None:
    requests = data.draw(conversations(block_tokens * data.draw(st.integers(0, 3))))
    check(requests, of_prompts(requests, block_tokens), size)


@dataclass(frozen=True)
class GivenTrace:
    """A generator that returns a given trace."""

    trace: Trace
    num_requests: int | None = None

    def load(self, rng: np.random.Generator) -> Trace:
        return self.trace


class ArriveAtOnce:
    """Arrivals of all requests at second 0."""

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        return trace.arriving(np.zeros(len(trace)))


@given(SIZES, SIZES, SIZES, st.permutations([0, 1, 2]), st.data())
@settings(max_examples=300, deadline=None)
def test_classes_of_a_mix_share_blocks_within_a_class_only(
    prompt_block: int, answer_block: int, size: int, order: list[int], data: st.DataObject
) -> None:
    chats, prompts = data.draw(conversations()), data.draw(families(prompt_block))
    answers = data.draw(families_with_answers(answer_block))
    traces = [trace_of(chats), of_prompts(prompts, prompt_block), of_prompts_and_outputs(answers, answer_block)]
    requests: list[Request] = []
    for number in order:
        for part in (chats, prompts, answers)[number]:
            prompt, output = (tuple((number, token) for token in tokens) for tokens in (part.prompt, part.output))
            requests.append(Request(prompt, output))  # type: ignore[arg-type]  # tokens of a class of their own
    classes = {f"class_{number}": ClientClass(GivenTrace(traces[number]), ArriveAtOnce()) for number in order}
    check(requests, Mix(classes, len(requests)).load(np.random.default_rng(0)), size)


def test_blocks_of_unknown_size_cannot_be_mixed_with_blocks_of_known_size() -> None:
    requests = [Request((1, 2, 3, 4), (5, 6))]
    traces = [of_prompts_and_outputs(requests, 2, with_size=with_size) for with_size in (False, True)]
    unknown, known = (ClientClass(GivenTrace(trace), ArriveAtOnce()) for trace in traces)
    for classes in ({"one": unknown, "other": known}, {"other": known, "one": unknown}):
        with pytest.raises(ValueError, match=r"clients.one: its prefix blocks have no size .* have 2 tokens"):
            Mix(classes, 2).load(np.random.default_rng(0))
    both = Mix({"one": unknown, "two": unknown}, 2).load(np.random.default_rng(0))
    assert both.prefix is not None
    assert both.prefix.block_tokens is None
    assert both.prefix.ids.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_conversation_as_mooncake_records_it() -> None:
    # The second prompt is the first one, its answer of 180 tokens, and 100 more; 512 tokens per block.
    prefix = PrefixBlocks.of_lengths(np.array([10, 11, 10, 12]), np.array([2, 2]), 512)
    trace = Trace(np.array([520, 800]), np.array([180, 50]), session=np.array([3, 3]), prefix=prefix)
    assert num_common(trace, 16, 0, 1) == 700 // 16
    assert BlockHashes.of(trace, 16).num_shared.tolist() == [700 // 16, 700 // 16]
    # Without the session only the first block is known to be equal.
    alone = Trace(trace.prompt_tokens, trace.output_tokens, prefix=prefix)
    assert num_common(alone, 16, 0, 1) == 512 // 16


def test_three_turns_as_mooncake_records_them() -> None:
    prefix = PrefixBlocks.of_lengths(np.array([1, 2, 3, 4]), np.array([1, 1, 2]), 512)
    trace = Trace(np.array([300, 450, 600]), np.full(3, 100), session=np.zeros(3, dtype=int), prefix=prefix)
    assert num_common(trace, 16, 1, 2) == 550 // 16
    assert num_common(trace, 16, 0, 1) == num_common(trace, 16, 0, 2) == 400 // 16


@pytest.mark.parametrize(("ids", "common"), [([0, 1, *range(10, 16)], 2), ([*range(10, 18)], 0)])
def test_block_ids_override_the_session_where_they_differ(ids: list[int], common: int) -> None:
    """Chat services drop old turns: the prompt is long enough to begin with the turn before, but differs."""
    prefix = PrefixBlocks.of_lengths(np.array([0, 1, 2, 3, *ids]), np.array([4, 8]), 16)
    trace = Trace(np.array([64, 128]), np.array([16, 16]), session=np.array([0, 0]), prefix=prefix)
    assert num_common(trace, 16, 0, 1) == common


@given(SIZES, st.booleans(), SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_blocks_of_outputs_take_precedence_over_sessions(
    block_tokens: int, with_size: bool, size: int, data: st.DataObject
) -> None:
    """Services of reasoning models leave the reasoning out of the next prompt."""
    requests = data.draw(families_with_answers(block_tokens))
    requests = [request._replace(session=data.draw(st.sampled_from([-1, 4, 7]))) for request in requests]
    trace = of_prompts_and_outputs(requests, block_tokens, with_size)
    check(requests, trace, size if with_size else block_tokens)


def test_ids_may_be_any_hashes() -> None:
    small = np.array([1, 2, 1, 3])
    for ids in (small, -small, small * (1 << 61), small - (1 << 62)):
        prefix = PrefixBlocks.of_lengths(ids, np.array([2, 2]), 512)
        trace = Trace(np.array([1000, 1024]), np.array([10, 10]), prefix=prefix)
        assert num_common(trace, 16, 0, 1) == 512 // 16


def test_many_requests_are_hashed_as_few_are() -> None:
    """Hashes are computed in parts of 65536 requests."""
    num_requests = (1 << 16) + 3
    prefix = PrefixBlocks.of_lengths(np.tile([5, 6], num_requests), np.full(num_requests, 2), 16)
    trace = Trace(np.full(num_requests, 32), np.full(num_requests, 17), prefix=prefix)
    hashes = BlockHashes.of(trace, 16)
    assert (hashes.num_shared == 2).all()
    assert hashes.runs_of(0)[0] == hashes.runs_of(num_requests - 1)[0] == (5, 2)
    own = {hashes.runs_of(request)[1] for request in (0, 1, num_requests - 2, num_requests - 1)}
    assert len(own) == 4


@pytest.mark.parametrize("ids", [[[0, 1], [1]], [[0, 1], [2, 1]], [[0, 3], [1, 2, 3, 4]], [[0, 0]]])
def test_ids_that_do_not_identify_whole_prefixes_are_refused(ids: list[list[int]]) -> None:
    lengths = np.array([len(row) for row in ids])
    prefix = PrefixBlocks.of_lengths(np.concatenate(ids), lengths, 1)
    with pytest.raises(ValueError, match=r"block_ids: a block of request number \d follows a different block"):
        BlockHashes.of(Trace(lengths, np.ones_like(lengths), prefix=prefix), 1)
