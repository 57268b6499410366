"""Generated traces match the statistics that define them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simulator.config import load_config
from traces import Client, PrefixBlocks, Trace
from traces.arrivals import Poisson, find_sessions
from traces.generators import (
    ClientClass,
    Conversations,
    Empirical,
    Fixed,
    Geometric,
    Lengths,
    LogNormal,
    Mix,
    SplitNormal,
    Synthetic,
    Table,
    Uniform,
    Zipf,
)
from traces.readers import TraceFile

# Median, P90 and standard deviation of prompt and output: Sarathi-Serve (OSDI 2024), Table 2. The table swaps the
# standard deviations of the outputs of the two datasets.
PUBLISHED = {
    "sharegpt": ((1730, 5696, 2088.9), (415, 834, 265.6)),
    "arxiv": ((7059, 12985, 3638), (208, 371, 101)),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PUBLISHED)
def test_generated_lengths_match_the_published_statistics(name: str, seed: int) -> None:
    trace = load_config(f"trace={name}", "trace.num_requests=10000", f"seed={seed}")["trace"]
    for tokens, (median, p90, std) in zip((trace.prompt_tokens, trace.output_tokens), PUBLISHED[name], strict=True):
        assert np.median(tokens) == pytest.approx(median, rel=0.02)
        assert np.quantile(tokens, 0.9) == pytest.approx(p90, rel=0.02)
        assert tokens.std() == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize(
    ("name", "max_total_tokens"), [("sharegpt", 8192), ("arxiv", 16384), ("lognormal", 8192), ("zipf", 8192)]
)
def test_generated_requests_keep_the_limit_of_their_total_length(name: str, max_total_tokens: int) -> None:
    trace = load_config(f"trace={name}", "trace.num_requests=20000")["trace"]
    assert (trace.prompt_tokens + trace.output_tokens).max() <= max_total_tokens
    assert min(trace.prompt_tokens.min(), trace.output_tokens.min()) >= 1


def test_more_requests_do_not_change_the_arrivals_of_the_first_ones() -> None:
    few, many = (load_config(f"trace.num_requests={count}")["trace"].arrival_s for count in (10, 1000))
    assert np.array_equal(few, many[:10])


CONTINUOUS: list[Lengths] = [
    Table([1, 5, 9, 400]),
    Table([1, 5, 9, 400], [0, 0.9, 0.99, 1]),
    LogNormal(100, 0.7),
    SplitNormal(200, 30, 90),
]


@given(st.sampled_from(CONTINUOUS), st.floats(0.001, 0.999))
def test_level_is_the_inverse_of_quantile(lengths: Lengths, level: float) -> None:
    assert lengths.level(lengths.quantile(np.array([level])))[0] == pytest.approx(level, abs=1e-9)


# Shares of the shortest lengths.
SHARES: dict[str, tuple[Lengths, dict[int, float]]] = {
    "uniform": (Uniform(3, 6), dict.fromkeys(range(3, 7), 0.25)),
    "one length": (Uniform(7, 7), {7: 1.0}),
    "zipf": (Zipf(2, 1, 3), {1: 36 / 49, 2: 9 / 49, 3: 4 / 49}),
    "zipf, flat": (Zipf(0, 5, 8), dict.fromkeys(range(5, 9), 0.25)),
    "geometric": (Geometric(2.5), {1: 0.4, 2: 0.24, 3: 0.144}),
}


@pytest.mark.parametrize("name", SHARES)
def test_integer_lengths_have_the_shares_of_their_distribution(name: str) -> None:
    lengths, shares = SHARES[name]
    sampled = lengths.quantile((np.arange(100_000) + 0.5) / 100_000)
    below = 0.0
    for length, share in shares.items():
        assert np.mean(sampled == length) == pytest.approx(share, abs=2e-5)
        below += share
        assert lengths.level(np.array([length, length + 0.9])) == pytest.approx([below, below])


def test_prompt_and_output_have_the_configured_rank_correlation() -> None:
    for configured in (-0.6, 0.0, 0.3, 0.9):
        source = Synthetic(LogNormal(500, 1), LogNormal(100, 0.5), None, 20_000, rank_correlation=configured)
        trace = source.load(np.random.default_rng(1))
        correlation = stats.spearmanr(trace.prompt_tokens, trace.output_tokens).statistic
        assert correlation == pytest.approx(configured, abs=4 / 20_000**0.5)
        assert np.median(trace.prompt_tokens) == pytest.approx(500, abs=1)


def test_a_file_is_resampled_row_by_row(tmp_path: Any) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("prompt_tokens,output_tokens,arrival_s,client\n10,1,0,a\n20,2,1,b\n30,3,2,a\n900,9,3,b\n")
    trace = Empirical(str(path), num_requests=30_000, max_total_tokens=100).load(np.random.default_rng(0))
    assert np.array_equal(trace.prompt_tokens, 10 * trace.output_tokens)
    assert trace.arrival_s is None
    assert trace.client is not None
    assert [trace.clients[client].name for client in trace.client[:50]] == [
        "b" if prompt == 20 else "a" for prompt in trace.prompt_tokens[:50]
    ]
    shares = np.bincount(trace.output_tokens)[1:] / len(trace)
    assert shares == pytest.approx([1 / 3] * 3, abs=4 * (2 / 9 / 30_000) ** 0.5)


def test_classes_without_priorities_get_priority_0_beside_classes_with_them(tmp_path: Any) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("prompt_tokens,output_tokens,priority\n" + "10,1,-4\n10,2,7\n" * 50)
    urgent, any_time = (ClientClass(source, Poisson(qps=1)) for source in (TraceFile(str(path)), Fixed(20)))
    trace = Mix({"urgent": urgent, "any time": any_time}, num_requests=60).load(np.random.default_rng(0))
    assert trace.priority is not None
    expected = np.where(trace.prompt_tokens == 20, 0, np.where(trace.output_tokens == 1, -4, 7))
    assert np.array_equal(trace.priority, expected)
    assert set(expected.tolist()) == {-4, 0, 7}
    assert Mix({"any time": any_time}, num_requests=60).load(np.random.default_rng(0)).priority is None


CHATS = Conversations(
    turns=Geometric(4), question=Uniform(5, 50), answer=Uniform(20, 200), max_total_tokens=1000, num_requests=20_000
)


def test_the_prompt_of_a_turn_contains_the_conversation_so_far() -> None:
    trace = CHATS.load(np.random.default_rng(0))
    session, turn = trace.turns()
    assert len(trace) == 20_000
    assert np.all(np.diff(session) >= 0)
    later = turn[1:] > 0
    new = trace.prompt_tokens[1:] - (trace.prompt_tokens + trace.output_tokens)[:-1]
    assert new[later].min() >= 5
    assert new[later].max() <= 50
    assert (trace.prompt_tokens + trace.output_tokens).max() <= 1000
    # Short chats are not cut, so their numbers of turns have the shares of the distribution.
    sizes = np.bincount(session)[:-1]
    for count in (1, 2):
        share = 0.75 ** (count - 1) * 0.25
        assert np.mean(sizes == count) == pytest.approx(share, abs=4 * (share / len(sizes)) ** 0.5)


@pytest.mark.parametrize("answers", [False, True], ids=["blocks of prompts", "blocks of prompts and outputs"])
def test_turns_are_found_by_their_prefix_blocks(answers: bool) -> None:
    """Questions are shorter than a block, so the last whole block of a prompt often belongs to the previous answer."""
    chats = Conversations(
        Geometric(4), Uniform(1, 9), Uniform(20, 90), 2000, num_requests=2000, opening=Uniform(16, 99)
    )
    trace = chats.load(np.random.default_rng(0))
    assert trace.session is not None
    counts = (trace.prompt_tokens + (trace.output_tokens if answers else 0)) // 16
    ids = np.concatenate(
        [1000 * number + np.arange(count) for number, count in zip(trace.session, counts, strict=True)]
    )
    recorded = replace(trace, session=None, prefix=PrefixBlocks.of_lengths(ids, counts, 16))
    assert np.array_equal(find_sessions(recorded), trace.session)


def test_first_turns_may_have_their_own_length_distribution() -> None:
    chats = Conversations(Geometric(4), Uniform(1, 5), Uniform(10, 20), 2000, 100, 5000, opening=Uniform(300, 400))
    trace = chats.load(np.random.default_rng(0))
    first = trace.prompt_tokens[trace.turns()[1] == 0]
    assert (first.min(), first.max()) == (400, 500)


def test_conversations_that_never_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="max_total_tokens=20 leaves no room for first turns"):
        Conversations(Geometric(2), Uniform(30, 40), Uniform(1, 2), 20).load(np.random.default_rng(0))


def test_shipped_conversations_match_the_file_that_they_were_fitted_to() -> None:
    trace = load_config("trace=sharegpt_sessions", "trace.num_requests=30000", "arrival=sessions")["trace"]
    assert np.median(trace.output_tokens) == pytest.approx(415, rel=0.02)
    assert np.median(trace.prompt_tokens) == pytest.approx(1730, rel=0.1)
    assert np.quantile(trace.prompt_tokens, 0.9) == pytest.approx(5696, rel=0.1)


ONES = np.ones(2, dtype=np.int64)
NAN = np.nan


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"prompt_tokens": np.array([1, 2]), "output_tokens": np.array([1])}, "output_tokens has 1 entries"),
        ({"prompt_tokens": ONES[:0], "output_tokens": ONES[:0]}, "needs at least one request"),
        ({"prompt_tokens": np.array([0]), "output_tokens": np.array([1])}, "prompt_tokens must be integers"),
        ({"prompt_tokens": np.array([1.5]), "output_tokens": np.array([1])}, "prompt_tokens must be integers"),
        ({"arrival_s": np.array([1.0, 0.0])}, "not decreasing"),
        ({"arrival_s": np.array([NAN, 1.0])}, "arrival_s must be finite"),
        ({"arrival_s": np.array([0.0, NAN]), "think_s": np.array([NAN, NAN])}, "either an arrival_s or a think_s"),
        ({"arrival_s": np.array([0.0, 1.0]), "think_s": np.array([NAN, 1.0])}, "either an arrival_s or a think_s"),
        (
            {"arrival_s": np.array([0.0, NAN]), "think_s": np.array([NAN, -1.0])},
            "think_s must be finite and at least 0",
        ),
        ({"priority": np.array([1])}, "priority has 1 entries, prompt_tokens 2"),
        ({"priority": np.array([1.0, 2.0])}, "priority must be integers"),
        ({"priority": np.array([0, 2**53 + 1])}, "priority must be integers from -2\\^53 to 2\\^53"),
        ({"client": np.array([0, 1]), "clients": (Client("a"),)}, "client must be numbers of the 1 clients"),
    ],
)
def test_impossible_traces_cannot_be_built(arrays: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Trace(**({"prompt_tokens": ONES, "output_tokens": ONES} | arrays))


def test_take_keeps_the_columns_of_the_selected_requests() -> None:
    prefix = PrefixBlocks.of_lengths(np.array([0, 1, 2, 0, 5]), np.array([3, 0, 2]), 16)
    trace = Trace(
        np.array([1, 2, 3]),
        np.array([4, 5, 6]),
        session=np.array([7, -1, 7]),
        priority=np.array([0, -2, 5]),
        prefix=prefix,
    )
    assert trace.take(np.array([True, False, True])).turns()[1].tolist() == [0, 1]
    swapped = trace.take(np.array([2, 0]))
    blocks, priority = swapped.prefix, swapped.priority
    assert blocks is not None
    assert priority is not None
    assert priority.tolist() == [5, 0]
    assert [blocks.of(request).tolist() for request in range(2)] == [[0, 5], [0, 1, 2]]
    assert trace.turns()[0].tolist() == [0, 1, 0]


def test_fixed_requests_are_identical() -> None:
    trace = Fixed(prompt_tokens=5, output_tokens=3, num_requests=4).load(np.random.default_rng(0))
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([5] * 4, [3] * 4)
