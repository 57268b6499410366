"""Metrics are exact: samples computed by hand, and definitions applied token by token."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import MetricOptions
from simulator.iteration_time import Affine
from simulator.results import Distribution
from simulator.schedulers import VLLM, Sarathi
from tests.helpers import serve

SECOND = Affine(base_s=1.0, per_token_s=0.0)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 5)), min_size=1, max_size=60))
@settings(deadline=None)
def test_a_quantile_is_the_smallest_value_whose_cumulative_weight_reaches_it(pairs: list[tuple[float, int]]) -> None:
    values, weights = np.array([value for value, _ in pairs]), np.array([weight for _, weight in pairs])
    sample = sorted(value for value, weight in pairs for _ in range(weight))
    summary = Distribution(values, weights).summary()
    if not sample:
        assert set(summary.values()) == {None}
        return
    for percentile in (50, 90, 95, 99):
        assert summary[f"p{percentile}"] == sample[math.ceil(percentile * len(sample) / 100) - 1]
    assert summary["mean"] == pytest.approx(sum(sample) / len(sample))
    assert summary["max"] == sample[-1]


def test_quantiles_that_fall_on_a_sample_are_that_sample() -> None:
    # 0.95 * 20 and 0.99 * 100 are whole numbers that floating point can miss.
    assert Distribution(np.arange(1.0, 21.0)).statistic("p95") == 19
    assert Distribution(np.arange(1.0, 101.0)).statistic("p99") == 99


def test_latencies_of_two_requests_by_hand() -> None:
    # Iterations of one second. Request 0 emits at 1, 2, 3. Request 1 arrives at 0.5, starts at 1, emits at 2, 3.
    summary = serve([(0.0, 8, 3), (0.5, 8, 2)], Sarathi(), iteration_time=SECOND).summary
    assert summary["ttft_s"]["mean"] == (1.0 + 1.5) / 2
    assert summary["scheduling_delay_s"]["max"] == 0.5
    assert summary["tbt_s"]["mean"] == 1.0
    assert summary["tpot_s"]["max"] == 1.0
    assert summary["e2e_s"]["max"] == 3.0
    assert summary["makespan_s"] == 3.0
    assert summary["requests_per_s"] == 2 / 3
    assert summary["output_tokens_per_s"] == 5 / 3
    assert summary["num_iterations"] == 3
    assert summary["busy_fraction"] == [1.0]


def test_a_prefill_between_two_tokens_is_in_the_gap() -> None:
    # vLLM: request 0 emits at 1 and 2; the prefill of request 1 takes the third second; both emit at 4.
    result = serve([(0.0, 8, 4), (2.0, 8, 2)], VLLM(), iteration_time=SECOND)
    assert result.requests["completed_s"].tolist() == [5.0, 4.0]
    assert result.summary["tbt_s"] == {"mean": 1.25, "p50": 1.0, "p90": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}


def test_first_tokens_count_as_zero_gaps_with_zero_first_gap() -> None:
    requests = [(0.0, 8, 3), (0.0, 8, 2)]
    with_zero = serve(requests, Sarathi(), iteration_time=SECOND, metrics=MetricOptions(zero_first_gap=True))
    assert with_zero.summary["tbt_s"]["mean"] == 3 / 5


def test_one_token_outputs_have_no_tpot_and_no_gap() -> None:
    summary = serve([(0.0, 8, 1)], Sarathi()).summary
    assert set(summary["tpot_s"].values()) == {None}
    assert set(summary["tbt_s"].values()) == {None}
    assert summary["ttft_s"] == summary["e2e_s"]


def test_warm_up_requests_are_simulated_but_not_measured() -> None:
    requests = [(0.0, 500, 3), (0.2, 8, 3), (5.0, 8, 3)]
    result = serve(requests, VLLM(), metrics=MetricOptions(warmup_s=1.0))
    alone = serve([(5.0, 8, 3)], VLLM())
    assert result.summary["num_finished"] == 3
    assert result.summary["num_measured"] == 1
    for name in ("ttft_s", "tbt_s", "tpot_s", "e2e_s", "scheduling_delay_s", "makespan_s", "requests_per_s"):
        assert result.summary[name] == alone.summary[name], name


def test_the_warm_up_begins_with_the_first_arrival() -> None:
    late = serve([(1e9, 500, 3), (1e9 + 0.2, 8, 3), (1e9 + 5, 8, 3)], VLLM(), metrics=MetricOptions(warmup_s=1.0))
    assert late.counted.tolist() == [False, False, True]


def test_a_run_in_which_nobody_arrives_is_refused() -> None:
    with pytest.raises(ValueError, match="no request arrives by then, the first at 40"):
        serve([(40.0, 8, 50)], VLLM(), time_limit_s=20)


def test_no_iteration_starts_after_the_time_limit_and_the_rest_is_counted() -> None:
    requests = [(0.0, 8, 50), (3.0, 8, 50), (40.0, 8, 5)]
    result = serve(requests, Sarathi(), iteration_time=SECOND, time_limit_s=20)
    assert result.replicas[0].iterations["start_s"].max() == 20
    summary = result.summary
    assert (summary["num_finished"], summary["num_unfinished"], summary["num_not_arrived"]) == (0, 2, 1)
    # Tokens of requests that were cut off count: request 0 has emitted 21 and request 1 18, the last at 21 s.
    assert summary["makespan_s"] == 21
    assert summary["output_tokens_per_s"] == (21 + 18) / 21
    assert summary["requests_per_s"] == 0
    assert summary["num_measured"] == 2
    # So do their gaps, all a second long.
    assert summary["tbt_s"]["max"] == 1.0


def test_a_request_that_was_never_scheduled_waited_until_the_end() -> None:
    result = serve([(0.0, 8, 50), (3.0, 8, 50)], Sarathi(max_num_seqs=1), iteration_time=SECOND, time_limit_s=20)
    assert np.isnan(result.requests["first_scheduled_s"][1])
    assert result.summary["scheduling_delay_s"]["max"] == 21 - 3


def test_a_run_without_a_finished_request_has_null_metrics() -> None:
    summary = serve([(0.0, 5000, 3)], VLLM()).summary
    assert summary["num_ignored"] == 1
    assert summary["num_iterations"] == 0
    assert summary["requests_per_s"] is None
    assert set(summary["ttft_s"].values()) == {None}
    assert summary["kv_use"]["mean"] is None


def test_kv_use_is_weighted_by_time() -> None:
    # One request of 16 tokens in blocks of 16: 1 block for one second, then 2 blocks for three seconds.
    result = serve([(0.0, 16, 4)], Sarathi(), num_blocks=10, iteration_time=SECOND)
    assert result.replicas[0].iterations["free_blocks"].tolist() == [9, 8, 8, 8]
    assert result.summary["kv_use"] == {"mean": pytest.approx(0.175), "max": 0.2, "num_blocks": 10}


def test_both_stages_of_a_pipeline_report_their_busy_fraction() -> None:
    summary = serve([(0.0, 8, 3)], Sarathi(), pp=2, iteration_time=SECOND).summary
    assert summary["busy_fraction"] == [0.5, 0.5]
