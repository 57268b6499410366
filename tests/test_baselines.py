"""Behaviour special to vLLM, Orca and FasterTransformer."""

import numpy as np

from simulator.schedulers import VLLM, FasterTransformer, Orca
from tests.helpers import serve


def test_vllm_stalls_decodes_while_it_prefills() -> None:
    iterations = serve([(0.0, 16, 40), (0.1, 600, 5)], VLLM()).replicas[0].iterations
    assert np.all((iterations["num_prefill_tokens"] == 0) | (iterations["num_decodes"] == 0))
    assert iterations["num_prefill_tokens"].max() == 600


def test_vllm_packs_whole_prompts_up_to_its_budget() -> None:
    iterations = serve([(0.0, 100, 2)] * 5, VLLM(max_num_batched_tokens=250)).replicas[0].iterations
    assert iterations["num_prefill_tokens"].tolist()[:3] == [200, 200, 100]


def test_vllm_budget_is_never_above_the_longest_sequence() -> None:
    iterations = (
        serve([(0.0, 100, 2)] * 5, VLLM(max_num_batched_tokens=10**6), max_model_len=300).replicas[0].iterations
    )
    assert iterations["num_prefill_tokens"].tolist()[:2] == [300, 200]


def test_orca_batches_whole_prompts_with_decodes() -> None:
    iterations = serve([(0.0, 16, 40), (0.1, 600, 5)], Orca()).replicas[0].iterations
    mixed = iterations["num_prefill_tokens"] > 0
    assert iterations["num_prefill_tokens"][mixed].tolist() == [16, 600]
    assert iterations["num_decodes"][mixed].tolist() == [0, 1]


def test_orca_reserves_the_longest_sequence_for_each_request() -> None:
    result = serve([(0.0, 16, 4)] * 5, Orca(), num_blocks=130, max_model_len=1024)
    assert result.replicas[0].iterations["free_blocks"].max() == 130 - 64
    assert result.replicas[0].iterations["num_decodes"].max() == 2
    assert result.summary["num_preemptions"] == 0


def test_faster_transformer_admits_no_request_before_its_batch_is_done() -> None:
    table = serve([(0.0, 16, 5), (0.0, 16, 50), (0.05, 16, 5)], FasterTransformer()).requests
    assert table["first_scheduled_s"][2] == table["completed_s"][:2].max()
    assert table["completed_s"][0] < table["completed_s"][1]
