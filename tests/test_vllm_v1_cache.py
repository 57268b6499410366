"""The prefix cache of vLLM V1 in runs: what is found, when, and what is told of it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import Result, load_result, simulate
from simulator.__main__ import main
from simulator.config import load_config
from simulator.results import evicted_blocks, prefix_cache_hits
from tests.helpers import run_main, write_run
from tests.test_vllm_v1 import batches, held_blocks, served


def cached(result: Result) -> list[int]:
    """Tokens that each request found at its first admission."""
    tokens: list[int] = result.requests["cached_tokens"].tolist()
    return tokens


def test_a_request_finds_what_one_before_it_in_the_same_batch_was_given() -> None:
    result = served([(0.0, 64, 1), (0.0, 64, 1)], ids=[range(4), range(4)])
    # The last block of a prompt is always computed, and here there are two of it.
    assert batches(result) == [[(0, 64), (1, 16)]]
    assert held_blocks(result) == [4 + 1]
    assert cached(result) == [0, 48]


@pytest.mark.parametrize(("prompt", "found"), [(159, 144), (160, 144), (161, 160), (175, 160), (176, 160)])
def test_of_a_prompt_that_is_all_cached_the_last_block_is_computed(prompt: int, found: int) -> None:
    result = served([(0.0, 176, 1), (5.0, prompt, 1)], ids=[range(11), range(prompt // 16)])
    assert batches(result) == [[(0, 176)], [(1, prompt - found)]]
    assert cached(result) == [0, found]


def test_what_is_found_are_whole_blocks() -> None:
    # Each has a chunk of 24 tokens, of which 16 fill a block that can be found.
    result = served([(0.0, 64, 1), (0.0, 64, 1)], ids=[range(4), range(4)], long_prefill_token_threshold=24)
    assert batches(result)[0] == [(0, 24), (1, 24)]
    assert result.replicas[0].iterations["context_tokens"][0] == 16
    assert cached(result) == [0, 16]


def test_a_running_request_does_not_look_again() -> None:
    options: dict[str, Any] = {"long_prefill_token_threshold": 16, "max_num_batched_tokens": 32}
    result = served([(0.0, 80, 1), (0.0, 80, 1)], ids=[range(5), range(6, 11)], **options)
    same = served([(0.0, 80, 1), (0.0, 80, 1)], ids=[range(5), range(5)], **options)
    assert cached(result) == [0, 0]
    # It finds the block of the first chunk and goes on from there, a block ahead of the other one.
    assert cached(same) == [0, 16]
    assert batches(same) == [[(0, 16), (1, 16)]] * 4 + [[(0, 16)]]


def test_without_a_cache_nothing_is_found_or_told() -> None:
    result = served([(0.0, 64, 1), (0.0, 64, 1)], ids=[range(4), range(4)], caching=False)
    assert batches(result) == [[(0, 64), (1, 64)]]
    assert result.summary["prefix_cache"] is None
    assert "cached_tokens" not in result.request_columns


def test_ends_of_prompts_are_evicted_before_their_beginnings() -> None:
    # Of six blocks the first prompt leaves four; the second one takes the two others and the last two of these.
    requests = [(0.0, 64, 1), (10.0, 64, 1), (20.0, 64, 1)]
    result = served(requests, ids=[range(4), range(10, 14), range(4)], num_blocks=7)
    assert cached(result) == [0, 0, 32]
    assert result.summary["prefix_cache"]["num_evicted_blocks"] == 2 + 2
    assert evicted_blocks(result).at(np.array([5.0, 15.0, 25.0])).tolist() == [0, 2, 4]


def test_what_was_used_least_lately_is_evicted_first() -> None:
    # Three prompts leave two labelled blocks each, of seven; then the first one is used again, and takes the seventh.
    # The next one needs three blocks: those that the second one left, and one of the third one's.
    prompts = [range(2), range(10, 12), range(20, 22), range(3), range(30, 33)]
    lengths = [33, 33, 33, 48, 48]
    asked = {"first": range(2), "second": range(10, 12), "third": range(20, 22)}
    found = {}
    for name, ids in asked.items():
        requests = [(10.0 * number, length, 1) for number, length in enumerate([*lengths, 33])]
        found[name] = cached(served(requests, ids=[*prompts, ids], num_blocks=8))
        assert found[name][:5] == [0, 0, 0, 32, 0]
    assert {name: tokens[5] for name, tokens in found.items()} == {"first": 32, "second": 0, "third": 16}


@pytest.mark.parametrize(("answer", "found"), [(28, 32), (29, 48), (30, 48)])
def test_the_next_turn_finds_prompt_and_answer_but_for_the_last_token(answer: int, found: int) -> None:
    # The last token of an answer never gets into the cache: of 20 + 28 tokens 47, which fill two blocks.
    result = served([(0.0, 20, answer), (100.0, 80, 1)], session=[0, 0])
    assert cached(result) == [0, found]


def test_a_turn_with_another_beginning_finds_nothing() -> None:
    assert cached(served([(0.0, 40, 30), (100.0, 60, 1)], session=[0, 0])) == [0, 0]
    assert cached(served([(0.0, 40, 30), (100.0, 80, 1)], session=[0, 1])) == [0, 0]


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    # Each has two of four blocks. The first one takes a third, for which the end of the other one is evicted.
    result = served([(0.0, 32, 16), (0.0, 32, 5)], num_blocks=5)
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["cached_tokens"].tolist() == [0, 0]
    assert result.requests["cached_tokens_readmissions"].tolist() == [0, 16]
    # Prompt and the one token that it had, less what it found.
    assert batches(result)[16] == [(1, 33 - 16)]
    figures = result.summary["prefix_cache"]
    assert (figures["cached_tokens"], figures["cached_tokens_readmissions"]) == (0, 16)
    assert figures["hit_rate_tokens"] == figures["hit_rate_requests"] == 0
    assert prefix_cache_hits(result)[0].value.tolist() == [64]


def test_figures_are_those_of_requests_behind_the_warmup() -> None:
    requests = [(0.0, 64, 1), (5.0, 64, 1), (10.0, 100, 1), (15.0, 36, 1)]
    result = served(requests, ids=[range(4), range(4), [*range(4), 20, 21], [30, 31]])
    assert cached(result) == [0, 48, 64, 0]
    figures = result.summary["prefix_cache"]
    assert figures["cached_tokens"] == 112
    assert figures["hit_rate_tokens"] == 112 / (64 + 64 + 100 + 36)
    assert figures["hit_rate_requests"] == 2 / 4
    known, found = prefix_cache_hits(result)
    assert known.at(np.array([7.0, 20.0])).tolist() == [128, 264]
    assert found.at(np.array([7.0, 20.0])).tolist() == [48, 112]


RUN = (
    "scheduler=vllm_v1", "trace=shared_prefix", "trace.num_requests=40", "trace.num_groups=3", "arrival.qps=4",
    "kv_cache.num_blocks=400",
)  # fmt: skip


def test_files_of_a_run_have_what_was_found(tmp_path: Path) -> None:
    result = write_run(tmp_path, *RUN)
    with (tmp_path / "requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-2:] == ["cached_tokens", "cached_tokens_readmissions"]
    for name in ("cached_tokens", "cached_tokens_readmissions"):
        assert [int(row[name]) for row in rows] == result.requests[name].tolist()
    figures = result.summary["prefix_cache"]
    assert figures["cached_tokens"] > 0
    assert figures["num_evicted_blocks"] > 0
    loaded = load_result(tmp_path)
    assert loaded.summary == result.summary
    steps = [(*prefix_cache_hits(run), evicted_blocks(run)) for run in (loaded, result)]
    for ours, theirs in zip(*steps, strict=True):
        assert np.array_equal(ours.time_s, theirs.time_s)
        assert np.array_equal(ours.value, theirs.value)


def test_warmup_is_left_out_of_the_rates() -> None:
    result = simulate(**load_config(*RUN, "metrics.warmup_s=3"))
    late = result.requests["arrival_s"] >= 3
    figures = result.summary["prefix_cache"]
    assert figures["cached_tokens"] == result.requests["cached_tokens"][late].sum()
    assert figures["hit_rate_tokens"] == figures["cached_tokens"] / result.requests["prompt_tokens"][late].sum()


def test_other_policies_have_no_prefix_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, ["kv_cache.prefix_caching=true", "scheduler=vllm"], tmp_path, monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.endswith("kv_cache.prefix_caching=true needs scheduler=vllm_v1, and VLLM has no prefix cache\n")
    assert error.count("\n") == 1
