"""Preemption by recomputation."""

import numpy as np

from simulator.results import num_running, queue_length
from simulator.schedulers import VLLM, Sarathi
from tests.helpers import serve

# Two requests grow from 3 blocks to 7 each. There are 10 blocks, and admission keeps 2 of them free: the later request
# is preempted until the other one finishes.
GROWING = [(0.0, 40, 60), (0.01, 40, 60)]
ROOM = {"num_blocks": 10, "watermark": 0.2}


def test_the_latest_arrival_is_preempted_and_finishes_later() -> None:
    result = serve(GROWING, VLLM(), **ROOM)
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.summary["num_finished"] == 2
    assert result.requests["completed_s"][0] < result.requests["completed_s"][1]


def test_a_preempted_request_recomputes_its_prompt_and_its_tokens() -> None:
    result = serve(GROWING, Sarathi(token_budget=512), **ROOM)
    members = result.replicas[0].members
    assert members is not None
    second = [(num_tokens, is_prompt) for batch in members for request, num_tokens, is_prompt in batch if request]
    prefills = [num_tokens for num_tokens, is_prompt in second if is_prompt]
    num_decodes = sum(not is_prompt for _, is_prompt in second)
    assert prefills[0] == 40
    assert len(prefills) == 2
    # Its 60 tokens came from two prefills and the decodes; the second prefill recomputed the earlier tokens.
    assert num_decodes == 60 - 2
    before = [is_prompt for _, is_prompt in second].index(True, 1)
    assert prefills[1] == 40 + before


def test_the_wait_for_readmission_counts_as_time_between_tokens() -> None:
    result = serve(GROWING, VLLM(), **ROOM)
    table = result.requests
    longest = result.summary["tbt_s"]["max"]
    assert longest > 0.5
    assert longest < table["completed_s"][1] - table["first_token_s"][1]


def test_a_lone_request_that_takes_the_last_block_is_preempted_although_the_block_has_room() -> None:
    # 60 prompt tokens in 4 blocks of 16: admission takes the fourth block and none is left.
    result = serve([(0.0, 60, 3)], VLLM(), num_blocks=4)
    assert result.requests["num_preemptions"].tolist() == [2]
    assert result.summary["num_finished"] == 1


def test_with_a_watermark_a_request_that_outgrew_the_memory_is_reported_as_stuck() -> None:
    result = serve([(0.0, 1500, 90), (0.5, 60, 5)], Sarathi(), num_blocks=100, max_model_len=1600)
    assert result.summary["num_stuck"] == 1
    assert result.summary["num_finished"] == 1
    assert "needs 101 free KV blocks" in result.summary["warnings"][-1]
    assert "100 in all" in result.summary["warnings"][-1]


def test_a_preemption_does_not_change_the_time_of_the_first_token() -> None:
    table = serve(GROWING, VLLM(), **ROOM).requests
    assert table["first_token_s"][1] < 0.2
    assert np.all(table["first_token_s"] < table["completed_s"])


def test_a_preemption_that_forms_no_batch_has_its_own_time() -> None:
    # The first and the third request decode in turn on two stages. The first has just taken the last KV block and is in
    # flight when the third needs another block: the third request is preempted itself.
    requests = [(0.6, 25, 58), (1.2, 20, 3), (1.6, 10, 54)]
    result = serve(requests, VLLM(), num_blocks=7, pp=2, watermark=0.0)
    (replica,) = result.replicas
    ((preemption, decided_s),) = replica.logged.lone_preemptions
    assert preemption == 0
    scheduled_s = replica.iterations["schedule_s"]
    assert decided_s not in scheduled_s
    around = np.array([decided_s - 1e-6, decided_s])
    assert np.diff(queue_length(result).at(around)).tolist() == [1]
    assert np.diff(num_running(result, 0).at(around)).tolist() == [-1]
