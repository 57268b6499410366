"""Properties of Sarathi: chunked prefills beside decodes."""

import numpy as np
import pytest

from simulator.schedulers import DynamicChunks, Sarathi
from tests.helpers import serve

LONG_PROMPT_BESIDE_DECODES = [(0.0, 16, 40), (0.0, 16, 40), (0.1, 600, 5)]


def test_decodes_never_wait_for_a_prompt() -> None:
    result = serve(LONG_PROMPT_BESIDE_DECODES, Sarathi(token_budget=64))
    members = result.replicas[0].members
    assert members is not None
    for batch in members[1:]:
        running = {request for request, _, _ in batch}
        if any(is_prompt for _, _, is_prompt in batch) and 2 in running:
            assert {0, 1} <= running


def test_chunks_fill_the_token_budget_that_decodes_leave() -> None:
    iterations = serve(LONG_PROMPT_BESIDE_DECODES, Sarathi(token_budget=64)).replicas[0].iterations
    prefill, decodes = iterations["num_prefill_tokens"], iterations["num_decodes"]
    mixed = (prefill > 0) & (decodes > 0)
    assert prefill[mixed].tolist() == [62] * 9 + [600 - 9 * 62]
    assert np.all(decodes[mixed] == 2)


def test_decodes_beyond_the_chunk_size_all_run_and_leave_no_room_for_a_prompt() -> None:
    # The first chunk of a prompt may fill the batch to 40 tokens, later chunks only to 2.
    dynamic = DynamicChunks(stages=2, low=2, high=40, max_tokens=20)
    result = serve([(0.0, 2, 30)] * 6 + [(0.3, 60, 2)], Sarathi(dynamic_chunks=dynamic))
    iterations = result.replicas[0].iterations
    prefill, decodes = iterations["num_prefill_tokens"], iterations["num_decodes"]
    assert prefill[decodes == 6].tolist().count(34) == 1
    assert prefill[decodes == 6].sum() == 34
    assert result.summary["num_finished"] == 7


def test_chunk_sizes_shrink_with_the_progress_of_a_prefill() -> None:
    dynamic = DynamicChunks(stages=4, low=32, high=128, max_tokens=400)
    assert dynamic.sizes == [128, 96, 64, 32]
    assert [dynamic.size_at(computed) for computed in (0, 99, 100, 399, 400, 4000)] == [128, 128, 96, 32, 32, 32]
    result = serve([(0.0, 500, 2)], Sarathi(dynamic_chunks=dynamic))
    chunks = result.replicas[0].iterations["num_prefill_tokens"].tolist()
    assert chunks == [128, 96, 64, 64, 32, 32, 32, 32, 20, 0]


def test_chunk_sizes_are_rounded_half_to_even() -> None:
    assert DynamicChunks(stages=2, low=32, high=80, max_tokens=100).sizes == [64, 32]
    assert DynamicChunks(stages=2, low=8, high=20, max_tokens=100).sizes == [16, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_budget": 0}, "token_budget must be an integer of at least 1 and below 2\\^31, got 0"),
        ({"max_num_seqs": -1}, "max_num_seqs must be an integer of at least 1 and below 2\\^31, got -1"),
        ({"token_budget": 1.5}, "token_budget must be an integer of at least 1 and below 2\\^31, got 1.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sarathi(**options)
