"""SLOs: objectives, goodput and missed bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.iteration_time import Affine
from simulator.results import SLO, Distribution, Objective, percentile_of, rank
from simulator.results.tokens import gaps_above, token_gaps
from simulator.schedulers import VLLM, Scheduler
from tests.helpers import serve
from tests.strategies import Workload, policies, serve_workload, workloads

SECOND = Affine(base_s=1.0, per_token_s=0.0)
# vLLM: request 0 emits at 1 and 2, waits for the prefill of request 1 and emits at 4 and 5; request 1 at 3 and 4.
STALLED = [(0.0, 8, 4), (2.0, 8, 2)]


def test_an_objective_bounds_a_statistic_of_a_latency() -> None:
    result = serve(STALLED, VLLM(), iteration_time=SECOND)
    slo = SLO.of({"tbt_p99": 1.5, "ttft_max": 2, "tpot_mean": 1.2, "e2e_p50": 2})
    assert slo.values(result) == {"tbt_p99": 2.0, "ttft_max": 1.0, "tpot_mean": pytest.approx(7 / 6), "e2e_p50": 2.0}
    assert slo.missed(result) == ["tbt_p99"]
    assert SLO.of({"tbt_p99": 1.9, "e2e_max": 1}).missed(result) == ["e2e_max", "tbt_p99"]


def test_goodput_counts_requests_that_individually_meet_every_bound() -> None:
    result = serve(STALLED, VLLM(), iteration_time=SECOND)
    # Gaps of request 0: 1, 2, 1 s; of request 1: 1 s. One of two requests has no gap above 1.5 s; the run takes 5 s.
    assert SLO.of({"tbt_max": 1.5}).goodput(result).share == 0.5
    assert SLO.of({"tbt_max": 1.5}).goodput(result).requests_per_s == 1 / 5
    # Two of three gaps of request 0 are within the bound: enough for its median, not for its 90th percentile.
    assert SLO.of({"tbt_p50": 1.5}).goodput(result).share == 1.0
    assert SLO.of({"tbt_p90": 1.5}).goodput(result).share == 0.5
    assert SLO.of({"tbt_mean": 1.2}).goodput(result).share == 0.5
    assert SLO.of({"e2e_p99": 3}).goodput(result).share == 0.5
    assert SLO.of({"ttft_p99": 0.5}).goodput(result).share == 0.0


def test_a_request_cut_off_by_the_time_limit_counts_as_missed_if_it_is_already_late() -> None:
    result = serve([(0.0, 8, 50), (0.0, 8, 2)], VLLM(max_num_seqs=1), iteration_time=SECOND, time_limit_s=10)
    assert SLO.of({"ttft_max": 20}).goodput(result).share is None
    assert SLO.of({"ttft_max": 5}).goodput(result).share == 0.0
    assert SLO.of({"scheduling_delay_max": 5}).missed(result) == ["scheduling_delay_max"]


def test_waiting_requests_count_with_the_time_they_have_waited() -> None:
    # One request decodes for 50 s; ten others wait for it and have no first token after 10 s.
    result = serve([(0.0, 8, 50), *[(0.0, 8, 2)] * 10], VLLM(max_num_seqs=1), iteration_time=SECOND, time_limit_s=10)
    assert result.summary["ttft_s"]["max"] == 1.0
    assert SLO.of({"ttft_p90": 5, "e2e_p50": 5}).values(result) == {"ttft_p90": 11.0, "e2e_p50": 11.0}


def test_a_latency_without_samples_is_missed_unless_all_requests_finished() -> None:
    ended = serve([(0.0, 8, 1)], VLLM(), iteration_time=SECOND)
    assert SLO.of({"tbt_p99": 0.1}).missed(ended) == []
    cut = serve([(0.0, 8, 1), (0.5, 8, 9)], VLLM(max_num_seqs=1), iteration_time=SECOND, time_limit_s=0.9)
    assert SLO.of({"tbt_p99": 0.1}).missed(cut) == ["tbt_p99"]


@given(workloads(), st.data())
@settings(max_examples=150, deadline=None)
def test_gaps_above_a_bound_match_the_distribution(workload: Workload, data: st.DataObject) -> None:
    policy: Scheduler = data.draw(policies(workload.max_num_seqs))
    result = serve_workload(workload, policy, Affine(base_s=0.011, per_token_s=0.0003))
    log, all_requests = result.replicas[0].tokens, np.ones(len(workload.requests), dtype=bool)
    gaps, weights = token_gaps(log, all_requests)
    bound_s = data.draw(st.sampled_from(sorted({0.0, *gaps.tolist()})))
    above, total = gaps_above(log, bound_s, len(all_requests))
    assert total.sum() == weights.sum()
    assert above.sum() == weights[gaps > bound_s].sum()
    for request in range(len(all_requests)):
        alone = np.arange(len(all_requests)) == request
        own, own_weights = token_gaps(log, alone)
        assert (above[request], total[request]) == (own_weights[own > bound_s].sum(), own_weights.sum())


@pytest.mark.parametrize(
    ("name", "bound"),
    [("tbt_p0", 1), ("tbt_p101", 1), ("tbt", 1), ("bla_p50", 1), ("tbt_median", 1), ("tbt_p99", 0), ("tbt_p99", "x")],
)
def test_an_invalid_objective_is_refused(name: str, bound: float) -> None:
    with pytest.raises(ValueError, match=name):
        SLO.of({name: bound})


def test_an_slo_needs_an_objective() -> None:
    with pytest.raises(ValueError, match="no objective"):
        SLO.of({})


def test_percentiles_may_have_decimals_and_are_exact() -> None:
    assert Distribution(np.arange(1.0, 1001.0)).statistic("p99.9") == 999
    assert rank(percentile_of("p99.9"), 1000) == 999
    assert Objective("tbt", "p99.9", 1.0).name == "tbt_p99.9"
