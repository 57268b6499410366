"""Labels of KV blocks against the tokens that they hold: equal where all tokens up to the end of a block are."""

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
    """What a request is about, and the session that it is a turn of."""

    prompt: Tokens
    output: Tokens
    session: int = -1

    @property
    def tokens(self) -> Tokens:
        return self.prompt + self.output


def beginnings(tokens: Tokens, size: int, with_rest: bool = False) -> list[Tokens]:
    """All tokens up to the end of each block; with the block that is not full, if asked for."""
    last = len(tokens) + (size if with_rest else 1)
    return [tokens[:end] for end in range(size, last, size)]


def trace_of(requests: list[Request], prefix: PrefixBlocks | None = None) -> Trace:
    has_sessions = any(one.session >= 0 for one in requests)
    return Trace(
        np.array([len(one.prompt) for one in requests]),
        np.array([len(one.output) for one in requests]),
        session=np.array([one.session for one in requests]) if has_sessions else None,
        prefix=prefix,
    )


def numbered(parts: list[list[Tokens]], block_tokens: int | None) -> PrefixBlocks:
    """Give each beginning a number, equal for equal ones."""
    numbers: dict[Tokens, int] = {}
    ids = [numbers.setdefault(one, 3 * len(numbers)) for part in parts for one in part]
    return PrefixBlocks.of_lengths(np.array(ids, dtype=np.int64), np.array([len(part) for part in parts]), block_tokens)


def of_prompts(requests: list[Request], block_tokens: int) -> Trace:
    """A trace with the blocks of the prompts, the last ones not full."""
    parts = [beginnings(one.prompt, block_tokens, with_rest=True) for one in requests]
    return trace_of(requests, numbered(parts, block_tokens))


def of_prompts_and_outputs(requests: list[Request], block_tokens: int, says_size: bool = True) -> Trace:
    """A trace with the full blocks of prompts and outputs."""
    parts = [beginnings(one.tokens, block_tokens) for one in requests]
    return trace_of(requests, numbered(parts, block_tokens if says_size else None))


def labels_of(trace: Trace, block_size: int) -> list[list[int]]:
    labels = BlockHashes.of(trace, block_size)
    return [
        [label for first, length in labels.runs_of(request) for label in range(first, first + length)]
        for request in range(len(trace))
    ]


def check(requests: list[Request], trace: Trace, block_size: int) -> None:
    """Compare labels with tokens, block by block."""
    found = labels_of(trace, block_size)
    expected = [beginnings(one.tokens, block_size) for one in requests]
    assert list(map(len, found)) == list(map(len, expected))
    pairs = {pair for ours, theirs in zip(found, expected, strict=True) for pair in zip(ours, theirs, strict=True)}
    assert len(pairs) == len({label for label, _ in pairs}) == len({tokens for _, tokens in pairs})
    owners = Counter(label for one in found for label in one)
    shared = [len(list(takewhile(lambda label: owners[label] > 1, one))) for one in found]
    assert BlockHashes.of(trace, block_size).num_shared.tolist() == shared


def num_common(trace: Trace, block_size: int, one: int, other: int) -> int:
    """Blocks at the beginning of two requests that are the same."""
    labels = labels_of(trace, block_size)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(labels[one], labels[other], strict=False)))


SIZES = st.sampled_from([1, 2, 3, 4, 5, 8, 12, 16])
LENGTHS = st.integers(1, 40)


class Fresh:
    """Tokens that were nowhere before."""

    def __init__(self) -> None:
        self._next = count()

    def __call__(self, num_tokens: int) -> Tokens:
        return tuple(next(self._next) for _ in range(num_tokens))


@st.composite
def families(draw: st.DrawFn, unit: int) -> list[Request]:
    """Requests that begin with whole blocks of an earlier prompt, or have the same one."""
    fresh, found = Fresh(), list[Request]()
    for _ in range(draw(st.integers(1, 8))):
        prompt: Tokens = draw(st.sampled_from(found)).prompt if found else ()
        if not prompt or draw(st.booleans()):
            whole = min(draw(st.integers(0, 6)), len(prompt) // unit) * unit
            prompt = prompt[:whole] + fresh(draw(LENGTHS))
        found.append(Request(prompt, fresh(draw(LENGTHS))))
    return found


@st.composite
def families_with_answers(draw: st.DrawFn, unit: int) -> list[Request]:
    """Requests that begin with whole blocks of prompt and answer of an earlier one."""
    fresh, found = Fresh(), list[Request]()
    for _ in range(draw(st.integers(1, 8))):
        begun = draw(st.sampled_from(found)).tokens if found else ()
        whole = min(draw(st.integers(0, 9)), len(begun) // unit) * unit
        # With shorter answers there would be no more blocks than those of the prompt.
        found.append(Request(begun[:whole] + fresh(draw(LENGTHS)), fresh(draw(LENGTHS) + 2 * unit)))
    return found


@st.composite
def conversations(draw: st.DrawFn, num_common: int = 0, most_turns: int = 9) -> list[Request]:
    """Turns of some sessions at once; a later one begins with all that was said before, or with nothing of it.

    Args:
        draw: Draws.
        num_common: Tokens that all sessions begin with.
        most_turns: Turns of a session at most.
    """
    fresh, found = Fresh(), list[Request]()
    common, latest, num_turns = fresh(num_common), dict[int, Request](), Counter[int]()
    for session in draw(st.lists(st.sampled_from([-1, 4, 7]), min_size=1, max_size=10)):
        if session >= 0 and num_turns[session] == most_turns:
            continue
        if session < 0 or session not in latest:
            prompt = common + fresh(draw(LENGTHS))
        elif draw(st.integers(0, 3)):
            prompt = latest[session].tokens + fresh(draw(st.integers(0, 20)))
        else:
            prompt = fresh(draw(st.integers(1, len(latest[session].tokens) - 1)))
        found.append(Request(prompt, fresh(draw(LENGTHS)), session))
        latest[session] = found[-1]
        num_turns[session] += 1
    return found


@given(st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=9), SIZES)
@settings(deadline=None)
def test_without_any_information_all_blocks_are_different(lengths: list[tuple[int, int]], size: int) -> None:
    fresh = Fresh()
    requests = [Request(fresh(prompt), fresh(output)) for prompt, output in lengths]
    check(requests, trace_of(requests), size)


@given(conversations(), SIZES)
@settings(max_examples=200, deadline=None)
def test_turns_that_have_room_for_what_was_said_begin_with_it(requests: list[Request], size: int) -> None:
    check(requests, trace_of(requests), size)


@given(SIZES, SIZES, st.data())
@settings(max_examples=300, deadline=None)
def test_blocks_of_prompts_say_which_prompts_begin_alike(block_tokens: int, size: int, data: st.DataObject) -> None:
    requests = data.draw(families(block_tokens))
    check(requests, of_prompts(requests, block_tokens), size)


@given(SIZES, SIZES, st.data())
@settings(max_examples=300, deadline=None)
def test_blocks_of_prompts_and_outputs_say_which_begin_alike(block_tokens: int, size: int, data: st.DataObject) -> None:
    requests = data.draw(families_with_answers(block_tokens))
    check(requests, of_prompts_and_outputs(requests, block_tokens), size)


@given(SIZES, st.data())
@settings(max_examples=100, deadline=None)
def test_blocks_of_unknown_size_are_those_of_the_engine(size: int, data: st.DataObject) -> None:
    requests = data.draw(families_with_answers(size))
    check(requests, of_prompts_and_outputs(requests, size, says_size=False), size)


@given(SIZES, SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_an_answer_is_found_by_the_next_turn_of_a_session(block_tokens: int, size: int, data: st.DataObject) -> None:
    requests = data.draw(conversations(block_tokens * data.draw(st.integers(0, 3)), most_turns=2))
    check(requests, of_prompts(requests, block_tokens), size)


@given(SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_an_answer_is_found_by_all_later_turns_of_a_session(size: int, data: st.DataObject) -> None:
    requests = data.draw(conversations(size * data.draw(st.integers(0, 3))))
    check(requests, of_prompts(requests, size), size)


@given(SIZES, SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_so_it_is_if_blocks_are_of_another_size(block_tokens: int, size: int, data: st.DataObject) -> None:
    requests = data.draw(conversations(block_tokens * data.draw(st.integers(0, 3))))
    check(requests, of_prompts(requests, block_tokens), size)


@dataclass(frozen=True)
class Given:
    """Requests that are there already, and arrive at once."""

    trace: Trace
    num_requests: int | None = None

    def load(self, rng: np.random.Generator) -> Trace:
        return self.trace


class AtOnce:
    """All requests arrive at second 0."""

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        return trace.arriving(np.zeros(len(trace)))


@given(SIZES, SIZES, SIZES, st.permutations([0, 1, 2]), st.data())
@settings(max_examples=300, deadline=None)
def test_classes_of_a_mix_share_what_they_share_alone_and_nothing_else(
    one: int, other: int, size: int, order: list[int], data: st.DataObject
) -> None:
    chats, prompts = data.draw(conversations()), data.draw(families(one))
    answers = data.draw(families_with_answers(other))
    traces = [trace_of(chats), of_prompts(prompts, one), of_prompts_and_outputs(answers, other)]
    requests: list[Request] = []
    for number in order:
        for part in (chats, prompts, answers)[number]:
            prompt, output = (tuple((number, token) for token in tokens) for tokens in (part.prompt, part.output))
            requests.append(Request(prompt, output))  # type: ignore[arg-type]  # tokens of a class of their own
    classes = {f"class_{number}": ClientClass(Given(traces[number]), AtOnce()) for number in order}
    check(requests, Mix(classes, len(requests)).load(np.random.default_rng(0)), size)


def test_blocks_of_unknown_size_are_mixed_with_none_of_known_size() -> None:
    requests = [Request((1, 2, 3, 4), (5, 6))]
    traces = [of_prompts_and_outputs(requests, 2, says_size=says) for says in (False, True)]
    one, other = (ClientClass(Given(trace), AtOnce()) for trace in traces)
    for classes in ({"one": one, "other": other}, {"other": other, "one": one}):
        with pytest.raises(ValueError, match=r"clients.one: its prefix blocks have no size .* have 2 tokens"):
            Mix(classes, 2).load(np.random.default_rng(0))
    both = Mix({"one": one, "two": one}, 2).load(np.random.default_rng(0))
    assert both.prefix is not None
    assert both.prefix.block_tokens is None
    assert both.prefix.ids.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_conversation_as_mooncake_records_it() -> None:
    # The second prompt is the first one, its answer of 700 - 520 tokens, and 100 more; 512 tokens a block.
    prefix = PrefixBlocks.of_lengths(np.array([10, 11, 10, 12]), np.array([2, 2]), 512)
    trace = Trace(np.array([520, 800]), np.array([180, 50]), session=np.array([3, 3]), prefix=prefix)
    assert num_common(trace, 16, 0, 1) == 700 // 16
    assert BlockHashes.of(trace, 16).num_shared.tolist() == [700 // 16, 700 // 16]
    # Without the session only the first 512 tokens are known to be the same.
    alone = Trace(trace.prompt_tokens, trace.output_tokens, prefix=prefix)
    assert num_common(alone, 16, 0, 1) == 512 // 16


def test_three_turns_as_mooncake_records_them() -> None:
    prefix = PrefixBlocks.of_lengths(np.array([1, 2, 3, 4]), np.array([1, 1, 2]), 512)
    trace = Trace(np.array([300, 450, 600]), np.full(3, 100), session=np.zeros(3, dtype=int), prefix=prefix)
    assert num_common(trace, 16, 1, 2) == 550 // 16
    assert num_common(trace, 16, 0, 1) == num_common(trace, 16, 0, 2) == 400 // 16


@pytest.mark.parametrize(("ids", "common"), [([0, 1, *range(10, 16)], 2), ([*range(10, 18)], 0)])
def test_a_turn_whose_ids_say_that_it_begins_in_another_way_does(ids: list[int], common: int) -> None:
    """Engines of chats leave out what is too old: the prompt is long enough for what was said, and another one."""
    prefix = PrefixBlocks.of_lengths(np.array([0, 1, 2, 3, *ids]), np.array([4, 8]), 16)
    trace = Trace(np.array([64, 128]), np.array([16, 16]), session=np.array([0, 0]), prefix=prefix)
    assert num_common(trace, 16, 0, 1) == common


@given(SIZES, st.booleans(), SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_blocks_of_outputs_count_more_than_sessions(
    block_tokens: int, says_size: bool, size: int, data: st.DataObject
) -> None:
    """Engines of models that reason leave the reasoning out of the next prompt."""
    requests = data.draw(families_with_answers(block_tokens))
    requests = [one._replace(session=data.draw(st.sampled_from([-1, 4, 7]))) for one in requests]
    trace = of_prompts_and_outputs(requests, block_tokens, says_size)
    check(requests, trace, size if says_size else block_tokens)


def test_ids_may_be_any_hashes() -> None:
    small = np.array([1, 2, 1, 3])
    for ids in (small, -small, small * (1 << 61), small - (1 << 62)):
        prefix = PrefixBlocks.of_lengths(ids, np.array([2, 2]), 512)
        trace = Trace(np.array([1000, 1024]), np.array([10, 10]), prefix=prefix)
        assert num_common(trace, 16, 0, 1) == 512 // 16


def test_blocks_of_many_requests_are_those_of_few() -> None:
    """They are labelled in parts of 65536 requests."""
    size = (1 << 16) + 3
    prefix = PrefixBlocks.of_lengths(np.tile([5, 6], size), np.full(size, 2), 16)
    trace = Trace(np.full(size, 32), np.full(size, 17), prefix=prefix)
    labels = BlockHashes.of(trace, 16)
    assert (labels.num_shared == 2).all()
    assert labels.runs_of(0)[0] == labels.runs_of(size - 1)[0] == (5, 2)
    own = {labels.runs_of(request)[1] for request in (0, 1, size - 2, size - 1)}
    assert len(own) == 4


@pytest.mark.parametrize("ids", [[[0, 1], [1]], [[0, 1], [2, 1]], [[0, 3], [1, 2, 3, 4]], [[0, 0]]])
def test_ids_that_do_not_stand_for_whole_prefixes_are_refused(ids: list[list[int]]) -> None:
    lengths = np.array([len(one) for one in ids])
    prefix = PrefixBlocks.of_lengths(np.concatenate(ids), lengths, 1)
    with pytest.raises(ValueError, match=r"block_ids: a block of request number \d follows a different block"):
        BlockHashes.of(Trace(lengths, np.ones_like(lengths), prefix=prefix), 1)
