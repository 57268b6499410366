"""The prefix cache of vLLM V1 in runs: hits, evictions and the figures that report them."""

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
from tests.test_vllm_v1 import allocated_blocks, batches, served


def cached_tokens(result: Result) -> list[int]:
    """Return the cached tokens of each request at its first admission."""
    tokens: list[int] = result.requests["cached_tokens"].tolist()
    return tokens


def test_a_request_hits_blocks_of_an_earlier_request_in_the_same_batch() -> None:
    result = served([(0.0, 64, 1), (0.0, 64, 1)], ids=[range(4), range(4)])
    # The last block of a prompt is always computed, so it exists twice here.
    assert batches(result) == [[(0, 64), (1, 16)]]
    assert allocated_blocks(result) == [4 + 1]
    assert cached_tokens(result) == [0, 48]


@pytest.mark.parametrize(("prompt", "num_cached"), [(159, 144), (160, 144), (161, 160), (175, 160), (176, 160)])
def test_the_last_block_of_a_fully_cached_prompt_is_computed(prompt: int, num_cached: int) -> None:
    result = served([(0.0, 176, 1), (5.0, prompt, 1)], ids=[range(11), range(prompt // 16)])
    assert batches(result) == [[(0, 176)], [(1, prompt - num_cached)]]
    assert cached_tokens(result) == [0, num_cached]


def test_only_full_blocks_are_cached() -> None:
    # Each request has a chunk of 24 tokens; 16 of them fill a block that can be hit.
    result = served([(0.0, 64, 1), (0.0, 64, 1)], ids=[range(4), range(4)], long_prefill_token_threshold=24)
    assert batches(result)[0] == [(0, 24), (1, 24)]
    assert result.replicas[0].iterations["context_tokens"][0] == 16
    assert cached_tokens(result) == [0, 16]


def test_a_running_request_does_not_match_the_cache_again() -> None:
    options: dict[str, Any] = {"long_prefill_token_threshold": 16, "max_num_batched_tokens": 32}
    result = served([(0.0, 80, 1), (0.0, 80, 1)], ids=[range(5), range(6, 11)], **options)
    same = served([(0.0, 80, 1), (0.0, 80, 1)], ids=[range(5), range(5)], **options)
    assert cached_tokens(result) == [0, 0]
    # The second request hits the block of the first chunk and stays one block ahead of the first request.
    assert cached_tokens(same) == [0, 16]
    assert batches(same) == [[(0, 16), (1, 16)]] * 4 + [[(0, 16)]]


def test_without_a_prefix_cache_there_are_no_hits_and_no_figures() -> None:
    result = served([(0.0, 64, 1), (0.0, 64, 1)], ids=[range(4), range(4)], caching=False)
    assert batches(result) == [[(0, 64), (1, 64)]]
    assert result.summary["prefix_cache"] is None
    assert "cached_tokens" not in result.request_columns


def test_the_last_blocks_of_a_prompt_are_evicted_first() -> None:
    # The first prompt fills four of six blocks; the second takes the other two and evicts the last two of the first.
    requests = [(0.0, 64, 1), (10.0, 64, 1), (20.0, 64, 1)]
    result = served(requests, ids=[range(4), range(10, 14), range(4)], num_blocks=7)
    assert cached_tokens(result) == [0, 0, 32]
    assert result.summary["prefix_cache"]["num_evicted_blocks"] == 2 + 2
    assert evicted_blocks(result).at(np.array([5.0, 15.0, 25.0])).tolist() == [0, 2, 4]


def test_least_recently_used_blocks_are_evicted_first() -> None:
    # Three prompts leave two hashed blocks each, of seven. Then the first prompt hits its blocks and takes the seventh.
    # The next prompt needs three blocks: the two of the second prompt and one of the third.
    prompts = [range(2), range(10, 12), range(20, 22), range(3), range(30, 33)]
    lengths = [33, 33, 33, 48, 48]
    repeated = {"first": range(2), "second": range(10, 12), "third": range(20, 22)}
    tokens = {}
    for name, ids in repeated.items():
        requests = [(10.0 * number, length, 1) for number, length in enumerate([*lengths, 33])]
        tokens[name] = cached_tokens(served(requests, ids=[*prompts, ids], num_blocks=8))
        assert tokens[name][:5] == [0, 0, 0, 32, 0]
    assert {name: cached[5] for name, cached in tokens.items()} == {"first": 32, "second": 0, "third": 16}


@pytest.mark.parametrize(("answer", "num_cached"), [(28, 32), (29, 48), (30, 48)])
def test_the_next_turn_hits_prompt_and_answer_except_the_last_token(answer: int, num_cached: int) -> None:
    # The last token of an answer never gets into the KV cache: 47 of 20 + 28 tokens do, which fill two blocks.
    result = served([(0.0, 20, answer), (100.0, 80, 1)], session=[0, 0])
    assert cached_tokens(result) == [0, num_cached]


def test_a_turn_that_does_not_continue_its_session_has_no_hit() -> None:
    assert cached_tokens(served([(0.0, 40, 30), (100.0, 60, 1)], session=[0, 0])) == [0, 0]
    assert cached_tokens(served([(0.0, 40, 30), (100.0, 80, 1)], session=[0, 1])) == [0, 0]


def test_a_preempted_request_hits_its_own_blocks() -> None:
    # Each request has two of four blocks. The first takes a third block, which evicts the last block of the second.
    result = served([(0.0, 32, 16), (0.0, 32, 5)], num_blocks=5)
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["cached_tokens"].tolist() == [0, 0]
    assert result.requests["cached_tokens_readmissions"].tolist() == [0, 16]
    # Its prompt and one output token, less the cached tokens.
    assert batches(result)[16] == [(1, 33 - 16)]
    figures = result.summary["prefix_cache"]
    assert (figures["cached_tokens"], figures["cached_tokens_readmissions"]) == (0, 16)
    assert figures["hit_rate_tokens"] is figures["hit_rate_requests"] is None  # nothing is known of prefixes
    assert prefix_cache_hits(result)[0].value.tolist() == [64]


def test_hit_rates_count_cached_tokens_and_requests_with_a_hit() -> None:
    requests = [(0.0, 64, 1), (5.0, 64, 1), (10.0, 100, 1), (15.0, 36, 1)]
    result = served(requests, ids=[range(4), range(4), [*range(4), 20, 21], [30, 31]])
    assert cached_tokens(result) == [0, 48, 64, 0]
    figures = result.summary["prefix_cache"]
    assert figures["cached_tokens"] == 112
    assert figures["hit_rate_tokens"] == 112 / (64 + 64 + 100 + 36)
    assert figures["hit_rate_requests"] == 2 / 4
    queried, hits = prefix_cache_hits(result)
    assert queried.at(np.array([7.0, 20.0])).tolist() == [128, 264]
    assert hits.at(np.array([7.0, 20.0])).tolist() == [48, 112]


RUN = (
    "scheduler=vllm_v1", "engine=none", "trace=shared_prefix", "trace.num_requests=40", "trace.num_groups=3",
    "arrival.qps=4", "kv_cache.num_blocks=400",
)  # fmt: skip


def test_files_of_a_run_contain_the_prefix_cache_figures(tmp_path: Path) -> None:
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
    for actual, expected in zip(*steps, strict=True):
        assert np.array_equal(actual.time_s, expected.time_s)
        assert np.array_equal(actual.value, expected.value)


UNKNOWN = "hits are unknown: the trace has neither block ids nor later turns"


@pytest.mark.parametrize(
    ("columns", "is_known"),
    [
        (("", "", ""), False),
        ((",block_ids", ",0-1", ",2-3"), True),
        ((",session", ",a", ",a"), True),
        ((",session", ",a", ",b"), False),
        ((",session", ",", ","), False),
    ],
    ids=["lengths only", "blocks", "a session", "sessions of one turn", "no session"],
)
def test_hit_rates_of_a_trace_that_says_nothing_of_prefixes_are_unknown(
    columns: tuple[str, str, str],
    is_known: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = ("prompt_tokens,output_tokens", "32,2", "40,2")
    text = "".join(f"{row}{more}\n" for row, more in zip(rows, columns, strict=True))
    (tmp_path / "trace.csv").write_text(text)
    arguments = ["scheduler=vllm_v1", "engine=none", "trace=file", "trace.path=trace.csv", "hydra.run.dir=run"]
    assert run_main(main, arguments, tmp_path, monkeypatch) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (UNKNOWN in printed) != is_known
    assert ("of the prompt tokens" in printed) == is_known
    for name in ("hit_rate_tokens", "hit_rate_requests"):
        assert (load_result(tmp_path / "run").summary["prefix_cache"][name] is not None) == is_known


def test_warm_up_requests_do_not_count_in_the_hit_rates() -> None:
    result = simulate(**load_config(*RUN, "metrics.warmup_s=3"))
    arrival_s = result.requests["arrival_s"]
    late = arrival_s >= arrival_s.min() + 3
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
