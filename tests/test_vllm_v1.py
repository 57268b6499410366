"""The policy of vLLM V1: no prefill phase, KV blocks chunk by chunk, async scheduling, preemption and priorities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from simulator import Deployment, Result, simulate
from simulator.cluster import Faults
from simulator.config import ConfigError, load_config
from simulator.iteration_time import Affine
from simulator.model import KVMemory, Parallelism
from simulator.results import FINISHED, IGNORED, STUCK, UNFINISHED, num_running, queue_length
from simulator.schedulers import VLLMV1
from tests.helpers import A100, tiny_model
from traces import PrefixBlocks, Trace


def served(
    requests: Sequence[tuple[float, int, int]],
    *,
    ids: Sequence[Sequence[int]] | None = None,
    session: Sequence[int] | None = None,
    priority: Sequence[int] | None = None,
    num_blocks: int = 1000,
    block_size: int = 16,
    caching: bool | None = None,
    max_model_len: int = 1024,
    pp: int = 1,
    faults: Faults | None = None,
    time_limit_s: float | None = None,
    **options: Any,
) -> Result:
    """Serve (arrival_s, prompt_tokens, output_tokens) with iterations of one second; `ids` name the full blocks."""
    arrival_s, prompts, outputs = zip(*requests, strict=True)
    trace = Trace(
        np.array(prompts),
        np.array(outputs),
        np.array(arrival_s, dtype=float),
        session=None if session is None else np.array(session),
        priority=None if priority is None else np.array(priority),
        prefix=None if ids is None else PrefixBlocks.of_lengths(np.concatenate(ids), np.array(list(map(len, ids)))),
    )
    deployment = Deployment(
        tiny_model(max_model_len),
        A100,
        VLLMV1(**options),
        Parallelism(pp=pp),
        Affine(1.0, 0.0),
        KVMemory(block_size, num_blocks, prefix_caching=caching),
    )
    return simulate(trace, deployment, faults=faults, time_limit_s=time_limit_s, log_members=True)


def batches(result: Result) -> list[list[tuple[int, int]]]:
    """Return (request, tokens) of each batch, in the order of the batch."""
    members = result.replicas[0].members
    assert members is not None
    return [[(request, num_tokens) for request, num_tokens, _ in batch] for batch in members]


def allocated_blocks(result: Result) -> list[int]:
    """Return the allocated KV blocks after each decision."""
    replica = result.replicas[0]
    return [int(replica.num_blocks - free) for free in replica.iterations["free_blocks"]]


def test_kv_blocks_are_allocated_chunk_by_chunk() -> None:
    result = served([(0.0, 64, 3)], max_num_batched_tokens=24)
    # 24, 48 and 64 tokens; then 65 and 66, which need a fifth block.
    assert batches(result) == [[(0, 24)], [(0, 24)], [(0, 16)], [(0, 1)], [(0, 1)]]
    assert allocated_blocks(result) == [2, 3, 4, 5, 5]


def test_one_kv_block_is_never_used() -> None:
    fits, too_long = (served([(0.0, prompt, 1)], num_blocks=5) for prompt in (64, 65))
    assert fits.replicas[0].num_blocks == 4
    assert fits.status.tolist() == [FINISHED]
    assert too_long.status.tolist() == [STUCK]
    assert "needs 5 free KV blocks and the replica has 4 in all" in too_long.summary["warnings"][0]


def test_an_earlier_prefill_takes_its_chunk_before_later_decodes() -> None:
    result = served([(0.0, 40, 2), (0.0, 3, 4)], max_num_batched_tokens=12, long_prefill_token_threshold=10)
    # The second request gets the rest of the budget: 2 tokens, 1, then one for each token that it emits.
    assert batches(result)[:4] == [[(0, 10), (1, 2)], [(0, 10), (1, 1)], [(0, 10), (1, 1)], [(0, 10), (1, 1)]]
    assert result.requests["first_token_s"].tolist() == [4.0, 2.0]


def test_the_long_prefill_threshold_does_not_apply_to_a_single_request() -> None:
    result = served([(0.0, 40, 2)], max_num_batched_tokens=64, long_prefill_token_threshold=10)
    assert batches(result)[0] == [(0, 40)]


def test_decodes_beyond_the_token_budget_keep_their_position_and_get_no_tokens() -> None:
    # While prefills pause, requests of one token are admitted; then the long one takes its chunk before they decode.
    options: dict[str, Any] = {"long_prefill_token_threshold": 4, "prefill_schedule_interval": 4}
    result = served([(0.0, 1, 9), (1.0, 30, 2), (3.0, 1, 9), (3.0, 1, 9)], max_num_batched_tokens=6, **options)
    paused, starved = [(0, 1), (2, 1), (3, 1)], [(0, 1), (1, 4), (2, 1)]
    assert batches(result)[1:7] == [[(0, 1), (1, 4)], [(0, 1)], paused, paused, starved, paused]


def test_the_latest_admission_is_preempted() -> None:
    result = served([(0.0, 32, 16), (0.0, 32, 16)], num_blocks=5, caching=False)
    # Each request has two of four blocks. The first needs a third block, and the second waits until the first finishes.
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["completed_s"].tolist() == [16.0, 31.0]


def test_priority_policy_preempts_the_least_urgent_request() -> None:
    # The second request needs a third of four blocks to decode; the first has two blocks with free slots.
    options: dict[str, Any] = {"num_blocks": 5, "caching": False, "policy": "priority"}
    urgent, same = (
        served([(0.0, 30, 16), (0.5, 32, 15)], priority=priority, **options) for priority in ([1, 0], [0, 0])
    )
    assert urgent.requests["num_preemptions"].tolist() == [1, 0]
    assert urgent.requests["completed_s"][1] < urgent.requests["completed_s"][0]
    # With equal priorities the later arrival is preempted.
    assert same.requests["num_preemptions"].tolist() == [0, 1]


def test_priority_policy_admits_the_most_urgent_request_first() -> None:
    requests = [(0.0, 5, 3), (0.0, 5, 1), (0.0, 5, 1), (1.5, 5, 1)]
    result = served(requests, priority=[0, 2, 1, -1], policy="priority", max_num_seqs=1)
    assert np.argsort(result.requests["first_scheduled_s"]).tolist() == [0, 3, 2, 1]


def test_async_scheduling_sees_a_free_slot_one_batch_later() -> None:
    requests = [(0.0, 5, 2), (0.0, 5, 9), (0.0, 5, 1)]
    sync, async_ = (served(requests, max_num_seqs=2, async_scheduling=flag).requests for flag in (False, True))
    # The first request finishes at 2 s, when the batch from 2 to 3 s is already formed.
    assert sync["first_token_s"].tolist() == [1.0, 1.0, 3.0]
    assert async_["first_token_s"].tolist() == [1.0, 1.0, 4.0]


def test_async_scheduling_makes_a_run_slightly_longer() -> None:
    requests = [(0.0, 5, 1 + number % 5) for number in range(40)]
    sync, async_ = (served(requests, max_num_seqs=4, async_scheduling=flag).end_s for flag in (False, True))
    # Each of the four slots is taken ten times, each time at most one batch later.
    assert sync < async_ <= sync + 10


def test_an_arrival_waits_one_iteration_longer_with_async_scheduling() -> None:
    requests = [(0.0, 5, 9), (0.5, 5, 1)]
    sync, async_ = (served(requests, async_scheduling=flag).requests for flag in (False, True))
    # Both admit the request at 1 s, but async scheduling for the batch that starts at 2 s.
    assert sync["first_scheduled_s"].tolist() == async_["first_scheduled_s"].tolist() == [0.0, 1.0]
    assert sync["first_token_s"].tolist() == [1.0, 2.0]
    assert async_["first_token_s"].tolist() == [1.0, 3.0]


def test_two_chunks_of_a_prompt_may_be_in_a_pipeline_at_once() -> None:
    result = served([(0.0, 64, 2)], pp=2, max_num_batched_tokens=32)
    iterations = result.replicas[0].iterations
    assert batches(result) == [[(0, 32)], [(0, 32)], [(0, 1)]]
    assert iterations["schedule_s"].tolist() == [0.0, 0.0, 1.5]  # a decode waits for the previous token
    assert iterations["end_s"].tolist() == [1.0, 1.5, 2.5]


def test_lengths_are_limited_by_max_model_len() -> None:
    result = served([(0.0, 40, 5), (0.0, 39, 5), (0.0, 30, 100), (0.0, 30, 10)], max_model_len=40)
    assert result.status.tolist() == [IGNORED, FINISHED, FINISHED, FINISHED]
    assert result.requests["output_tokens"].tolist() == [5, 1, 10, 10]
    assert result.requests["completed_s"].tolist()[1:] == [1.0, 10.0, 10.0]
    assert result.summary["num_ignored"] == 1


@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize("async_scheduling", [False, True])
def test_a_request_that_outgrows_the_memory_is_stuck_with_a_reason(pp: int, async_scheduling: bool) -> None:
    options: dict[str, Any] = {
        "num_blocks": 5,
        "pp": pp,
        "async_scheduling": async_scheduling,
        "scheduler_reserve_full_isl": False,
    }
    for request in ((0.0, 100, 3), (0.0, 60, 20)):
        result = served([request], max_num_batched_tokens=32, **options)
        assert result.status.tolist() == [STUCK]
        assert "needs" in result.summary["warnings"][0]
        assert "KV blocks and the replica has 4 in all; 0 requests wait behind it." in result.summary["warnings"][0]


def test_a_time_limit_lets_a_request_that_outgrows_the_memory_go_on() -> None:
    options: dict[str, Any] = {"num_blocks": 5, "max_num_batched_tokens": 32, "scheduler_reserve_full_isl": False}
    result = served([(0.0, 100, 3)], caching=False, time_limit_s=3000.0, **options)
    # Two chunks fill the memory; the third one preempts the request itself, and it starts again.
    assert result.status.tolist() == [UNFINISHED]
    assert batches(result) == [[(0, 32)]] * 3001
    assert result.requests["num_preemptions"].tolist() == [1500]


def test_a_prompt_longer_than_the_budget_is_stuck_without_chunked_prefill() -> None:
    result = served([(0.0, 40, 2), (0.0, 5, 2)], max_num_batched_tokens=32, enable_chunked_prefill=False)
    assert result.status.tolist() == [STUCK, STUCK]
    (warning,) = result.warnings
    assert warning.text.startswith("2 requests are stuck forever. Request 0 (40 tokens) waits at the head of")
    assert served([(0.0, 32, 2), (0.0, 5, 2)], max_num_batched_tokens=32, enable_chunked_prefill=False).end_s == 3.0


def test_a_request_that_finishes_while_it_waits_leaves_the_queue() -> None:
    # Two batches are in flight, one of each request. When the first request has its token it needs a third of four
    # blocks, and the second request is preempted. Its last token is already in flight and arrives half a second later.
    result = served([(0.0, 32, 5), (0.0, 32, 1)], pp=2, num_blocks=5, max_num_batched_tokens=32, caching=False)
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["completed_s"].tolist()[1] == 1.5
    queue, running = queue_length(result), num_running(result, 0)
    assert queue.at(np.array([0.1, 1.2, 1.6, 9.0])).tolist() == [0, 1, 0, 0]
    assert running.at(np.array([0.1, 1.2, 1.6, 9.0])).tolist() == [2, 1, 1, 0]


def test_the_queue_is_correct_after_a_decision_that_only_preempts() -> None:
    # The third decision schedules no tokens: the second request needs two blocks, takes the only block of the third
    # request and is then preempted itself. The token of the third request arrives at 1 s, and the next batch is formed
    # at 4/3 s.
    options: dict[str, Any] = {"long_prefill_token_threshold": 2, "scheduler_reserve_full_isl": False, "pp": 3}
    requests = [(0.0, 4, 2), (0.0, 6, 1), (0.0, 1, 1)]
    result = served(requests, num_blocks=10, block_size=1, caching=False, **options)
    assert batches(result)[:3] == [[(0, 2), (1, 2), (2, 1)], [(0, 2), (1, 2)], [(0, 1), (1, 2)]]
    times_s = np.array([0.5, 1.1, 99.0])
    assert queue_length(result).at(times_s).tolist() == [2, 1, 0]
    assert num_running(result, 0).at(times_s).tolist() == [1, 1, 0]


@pytest.mark.parametrize("async_scheduling", [False, True])
@pytest.mark.parametrize("pp", [1, 2])
def test_requests_that_preempt_each_other_forever_are_stuck(pp: int, async_scheduling: bool) -> None:
    # Equal priorities and arrivals: the first running request is always the victim. Memory is too small for both.
    options: dict[str, Any] = {"policy": "priority", "long_prefill_token_threshold": 4}
    options["async_scheduling"] = async_scheduling
    result = served([(0.0, 35, 8), (0.0, 35, 8)], num_blocks=41, block_size=1, caching=False, pp=pp, **options)
    assert result.status.tolist() == [STUCK, STUCK]
    assert "2 requests are stuck forever" in result.summary["warnings"][0]


def test_requests_with_slow_progress_are_not_stuck() -> None:
    # The first request is never preempted and finishes late; until then the others are preempted again and again.
    options: dict[str, Any] = {"long_prefill_token_threshold": 1, "scheduler_reserve_full_isl": False}
    result = served([(0.0, 490, 1)] * 50, num_blocks=500, block_size=1, caching=False, **options)
    assert result.summary["num_finished"] == 50


MISTAKES = {
    **{f"{name}=0": f"{name} must be an integer of at least 1" for name in (
        "max_num_batched_tokens", "max_num_seqs", "max_num_active_seqs", "max_num_scheduled_tokens",
        "prefill_schedule_interval",
    )},
    "long_prefill_token_threshold=-1": "long_prefill_token_threshold must be an integer of at least 0",
    "max_num_seqs=2.5": "max_num_seqs must be an integer of at least 1 and below 2^31, got 2.5",
    "max_num_seqs=null": "max_num_seqs must be an integer of at least 1 and below 2^31, got None",
    "max_num_active_seqs=true": "max_num_active_seqs must be an integer of at least 1 and below 2^31 or null, got True",
    "policy=lifo": "policy must be one of fcfs, priority; got 'lifo'",
    "watermark=1": "watermark must be a number of at least 0 and below 1, got 1",
    "watermark=-0.1": "watermark must be a number of at least 0 and below 1, got -0.1",
    "watermark=nan": "watermark must be a number of at least 0 and below 1, got nan",
    "watermark=true": "watermark must be a number of at least 0 and below 1, got True",
    **{f"{name}=1": f"{name} must be true or false, got 1" for name in (
        "enable_chunked_prefill", "long_prefill_token_threshold_adaptive", "scheduler_reserve_full_isl",
        "async_scheduling",
    )},
    "max_num_partial_prefills=2": "max_num_partial_prefills is not a key",
}  # fmt: skip


@pytest.mark.parametrize("override", MISTAKES)
def test_options_out_of_range_are_named(override: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("scheduler=vllm_v1", f"scheduler.{override}")
    assert str(error.value).startswith(f"scheduler.{MISTAKES[override]}")
    assert "\n" not in str(error.value)
