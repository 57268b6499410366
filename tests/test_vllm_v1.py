"""What is special about the policy of vLLM V1: no phases, KV blocks by the chunk, batches that overlap."""

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
    """Serve (arrival_s, prompt_tokens, output_tokens) with iterations of a second; ids are those of full blocks."""
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
    """Requests and their tokens in each batch, in its own order."""
    members = result.replicas[0].members
    assert members is not None
    return [[(request, num_tokens) for request, num_tokens, _ in batch] for batch in members]


def held_blocks(result: Result) -> list[int]:
    """KV blocks that are held after each decision."""
    replica = result.replicas[0]
    return [int(replica.num_blocks - free) for free in replica.iterations["free_blocks"]]


def test_kv_blocks_are_taken_by_the_chunk() -> None:
    result = served([(0.0, 64, 3)], max_num_batched_tokens=24)
    # 24, 48 and 64 tokens; then 65 and 66, for which there is a fifth block.
    assert batches(result) == [[(0, 24)], [(0, 24)], [(0, 16)], [(0, 1)], [(0, 1)]]
    assert held_blocks(result) == [2, 3, 4, 5, 5]


def test_one_of_the_kv_blocks_is_never_used() -> None:
    fits, does_not = (served([(0.0, prompt, 1)], num_blocks=5) for prompt in (64, 65))
    assert fits.replicas[0].num_blocks == 4
    assert fits.status.tolist() == [FINISHED]
    assert does_not.status.tolist() == [STUCK]
    assert "needs 5 free KV blocks and the replica has 4 in all" in does_not.summary["warnings"][0]


def test_an_earlier_prefill_takes_its_chunk_before_later_decodes() -> None:
    result = served([(0.0, 40, 2), (0.0, 3, 4)], max_num_batched_tokens=12, long_prefill_token_threshold=10)
    # The second request gets what is left: 2 tokens, 1, then one for each token that it emits.
    assert batches(result)[:4] == [[(0, 10), (1, 2)], [(0, 10), (1, 1)], [(0, 10), (1, 1)], [(0, 10), (1, 1)]]
    assert result.requests["first_token_s"].tolist() == [4.0, 2.0]


def test_the_threshold_does_not_count_for_a_single_request() -> None:
    result = served([(0.0, 40, 2)], max_num_batched_tokens=64, long_prefill_token_threshold=10)
    assert batches(result)[0] == [(0, 40)]


def test_decodes_behind_a_used_up_budget_keep_their_place_and_get_nothing() -> None:
    # While prefills rest, requests of one token are admitted; then the long one takes its chunk before they do.
    options: dict[str, Any] = {"long_prefill_token_threshold": 4, "prefill_schedule_interval": 4}
    result = served([(0.0, 1, 9), (1.0, 30, 2), (3.0, 1, 9), (3.0, 1, 9)], max_num_batched_tokens=6, **options)
    resting, starved = [(0, 1), (2, 1), (3, 1)], [(0, 1), (1, 4), (2, 1)]
    assert batches(result)[1:7] == [[(0, 1), (1, 4)], [(0, 1)], resting, resting, starved, resting]


def test_the_latest_admission_is_preempted() -> None:
    result = served([(0.0, 32, 16), (0.0, 32, 16)], num_blocks=5, caching=False)
    # Each has two of four blocks; the first one needs a third, and the second one waits until it has ended.
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["completed_s"].tolist() == [16.0, 31.0]


def test_by_priority_the_least_urgent_one_is_preempted() -> None:
    # The second one needs a third of four blocks when it decodes, the first one has two and still room in them.
    options: dict[str, Any] = {"num_blocks": 5, "caching": False, "policy": "priority"}
    urgent, same = (
        served([(0.0, 30, 16), (0.5, 32, 15)], priority=priority, **options) for priority in ([1, 0], [0, 0])
    )
    assert urgent.requests["num_preemptions"].tolist() == [1, 0]
    assert urgent.requests["completed_s"][1] < urgent.requests["completed_s"][0]
    # Of equal priorities the later arrival is thrown out.
    assert same.requests["num_preemptions"].tolist() == [0, 1]


def test_by_priority_a_more_urgent_request_is_admitted_first() -> None:
    requests = [(0.0, 5, 3), (0.0, 5, 1), (0.0, 5, 1), (1.5, 5, 1)]
    result = served(requests, priority=[0, 2, 1, -1], policy="priority", max_num_seqs=1)
    assert np.argsort(result.requests["first_scheduled_s"]).tolist() == [0, 3, 2, 1]


def test_a_freed_place_is_seen_a_batch_later_if_batches_are_formed_ahead() -> None:
    requests = [(0.0, 5, 2), (0.0, 5, 9), (0.0, 5, 1)]
    usual, ahead = (served(requests, max_num_seqs=2, async_scheduling=ahead).requests for ahead in (False, True))
    # The first one ends at 2 s, when the batch from 2 to 3 s has been formed already.
    assert usual["first_token_s"].tolist() == [1.0, 1.0, 3.0]
    assert ahead["first_token_s"].tolist() == [1.0, 1.0, 4.0]


def test_totals_are_slightly_longer_if_batches_are_formed_ahead() -> None:
    requests = [(0.0, 5, 1 + number % 5) for number in range(40)]
    usual, ahead = (served(requests, max_num_seqs=4, async_scheduling=ahead).end_s for ahead in (False, True))
    # Each of the places is taken ten times, each time at most a batch later.
    assert usual < ahead <= usual + 10


def test_an_arrival_waits_an_iteration_longer_if_batches_are_formed_ahead() -> None:
    requests = [(0.0, 5, 9), (0.5, 5, 1)]
    usual, ahead = (served(requests, async_scheduling=ahead).requests for ahead in (False, True))
    # Both admit it at 1 s, but one of them for the batch that begins at 2 s.
    assert usual["first_scheduled_s"].tolist() == ahead["first_scheduled_s"].tolist() == [0.0, 1.0]
    assert usual["first_token_s"].tolist() == [1.0, 2.0]
    assert ahead["first_token_s"].tolist() == [1.0, 3.0]


def test_two_chunks_of_a_prompt_are_in_a_pipeline_at_once() -> None:
    result = served([(0.0, 64, 2)], pp=2, max_num_batched_tokens=32)
    iterations = result.replicas[0].iterations
    assert batches(result) == [[(0, 32)], [(0, 32)], [(0, 1)]]
    assert iterations["schedule_s"].tolist() == [0.0, 0.0, 1.5]  # a decode waits for the token before it
    assert iterations["end_s"].tolist() == [1.0, 1.5, 2.5]


def test_lengths_are_cut_to_the_model() -> None:
    result = served([(0.0, 40, 5), (0.0, 39, 5), (0.0, 30, 100), (0.0, 30, 10)], max_model_len=40)
    assert result.status.tolist() == [IGNORED, FINISHED, FINISHED, FINISHED]
    assert result.requests["output_tokens"].tolist() == [5, 1, 10, 10]
    assert result.requests["completed_s"].tolist()[1:] == [1.0, 10.0, 10.0]
    assert result.summary["num_ignored"] == 1


@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize("ahead", [False, True])
def test_a_request_that_outgrows_the_memory_is_stuck_with_a_reason(pp: int, ahead: bool) -> None:
    options: dict[str, Any] = {
        "num_blocks": 5,
        "pp": pp,
        "async_scheduling": ahead,
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
    # Two chunks fill the memory; the third one throws the request out, and it begins again.
    assert result.status.tolist() == [UNFINISHED]
    assert batches(result) == [[(0, 32)]] * 3001
    assert result.requests["num_preemptions"].tolist() == [1500]


def test_a_prompt_longer_than_the_budget_is_stuck_if_it_may_not_be_divided() -> None:
    result = served([(0.0, 40, 2), (0.0, 5, 2)], max_num_batched_tokens=32, enable_chunked_prefill=False)
    assert result.status.tolist() == [STUCK, STUCK]
    (warning,) = result.warnings
    assert warning.text.startswith("2 requests are stuck forever. Request 0 (40 tokens) waits at the head of")
    assert served([(0.0, 32, 2), (0.0, 5, 2)], max_num_batched_tokens=32, enable_chunked_prefill=False).end_s == 3.0


def test_a_request_that_ends_while_it_waits_leaves_the_queue() -> None:
    # Two batches are in flight, one of each request. When the first one has its token it needs a third of four
    # blocks: the other one is preempted. Its last token is being made then, and comes half a second later.
    result = served([(0.0, 32, 5), (0.0, 32, 1)], pp=2, num_blocks=5, max_num_batched_tokens=32, caching=False)
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["completed_s"].tolist()[1] == 1.5
    queue, running = queue_length(result), num_running(result, 0)
    assert queue.at(np.array([0.1, 1.2, 1.6, 9.0])).tolist() == [0, 1, 0, 0]
    assert running.at(np.array([0.1, 1.2, 1.6, 9.0])).tolist() == [2, 1, 1, 0]


def test_the_queue_is_right_after_a_call_that_only_preempts() -> None:
    # The third call gives no tokens: the second request takes the third one's only block, as it needs two, and gives
    # way itself. The token of the third request comes at 1 s, and until 4/3 s no other batch is formed.
    options: dict[str, Any] = {"long_prefill_token_threshold": 2, "scheduler_reserve_full_isl": False, "pp": 3}
    requests = [(0.0, 4, 2), (0.0, 6, 1), (0.0, 1, 1)]
    result = served(requests, num_blocks=10, block_size=1, caching=False, **options)
    assert batches(result)[:3] == [[(0, 2), (1, 2), (2, 1)], [(0, 2), (1, 2)], [(0, 1), (1, 2)]]
    times_s = np.array([0.5, 1.1, 99.0])
    assert queue_length(result).at(times_s).tolist() == [2, 1, 0]
    assert num_running(result, 0).at(times_s).tolist() == [1, 1, 0]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("pp", [1, 2])
def test_requests_that_preempt_each_other_for_ever_are_stuck(pp: int, ahead: bool) -> None:
    # As urgent as each other, so that always the one that is ahead gives way, and too long for both.
    options: dict[str, Any] = {"policy": "priority", "long_prefill_token_threshold": 4, "async_scheduling": ahead}
    result = served([(0.0, 35, 8), (0.0, 35, 8)], num_blocks=41, block_size=1, caching=False, pp=pp, **options)
    assert result.status.tolist() == [STUCK, STUCK]
    assert "2 requests are stuck forever" in result.summary["warnings"][0]


def test_requests_that_get_on_slowly_are_not_stuck() -> None:
    # The first one is never preempted and ends one day; until then the others are again and again.
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
    "max_num_active_seqs=true": "max_num_active_seqs must be an integer of at least 1 and below 2^31, got True",
    "policy=lifo": "policy must be fcfs or priority, got 'lifo'",
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
