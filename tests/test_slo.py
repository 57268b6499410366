"""SLOs: objectives, goodput and missed bounds."""

import numpy as np
import pytest

from simulator.iteration_time import Affine
from simulator.results import SLO, Distribution, Objective, percentile_of, rank
from simulator.schedulers import VLLM
from tests.helpers import serve

SECOND = Affine(base_s=1.0, per_token_s=0.0)
# vLLM: request 0 emits at 1 and 2, waits for the prefill of request 1 and emits at 4 and 5; request 1 at 3 and 4.
STALLED = [(0.0, 8, 4), (2.0, 8, 2)]


def test_an_objective_bounds_a_statistic_of_a_latency() -> None:
    result = serve(STALLED, VLLM(), iteration_time=SECOND)
    slo = SLO.of({"tbt_p99": 1.5, "ttft_max": 2, "tpot_mean": 1.2, "e2e_p50": 2})
    assert slo.values(result) == {"tbt_p99": 2.0, "ttft_max": 1.0, "tpot_mean": pytest.approx(7 / 6), "e2e_p50": 2.0}
    assert slo.missed(result) == ["tbt_p99"]
    assert SLO.of({"tbt_p99": 1.9, "e2e_max": 1}).missed(result) == ["e2e_max", "tbt_p99"]


def test_goodput_counts_requests_within_the_bounds_on_each_request() -> None:
    result = serve(STALLED, VLLM(), iteration_time=SECOND)
    # TTFT 1 and 1 s, TPOT 4/3 and 1 s, E2E 5 and 2 s; the run takes 5 s.
    assert SLO.of({"tpot": 1.2}).goodput(result).share == 0.5
    assert SLO.of({"tpot": 1.2}).figures(result)["goodput_qps"] == 1 / 5
    assert SLO.of({"ttft": 1, "e2e": 5}).goodput(result).share == 1.0
    assert SLO.of({"ttft": 1, "e2e": 4.9}).goodput(result).share == 0.5
    assert SLO.of({"ttft": 0.5}).goodput(result).share == 0.0


def test_a_tail_percentile_bounds_each_request_and_a_median_does_not() -> None:
    result = serve(STALLED, VLLM(), iteration_time=SECOND)
    for statistic in ("p90", "p99.9", "max"):
        assert SLO.of({f"e2e_{statistic}": 3}).goodput(result).share == 0.5
    for name in ("e2e_p50", "e2e_mean", "e2e_p89", "tbt_p99", "scheduling_delay_p99"):
        assert SLO.of({name: 1}).goodput(result).share is None


def test_goodput_is_an_objective() -> None:
    result = serve(STALLED, VLLM(), iteration_time=SECOND)
    met, missed = SLO.of({"e2e": 3, "goodput": 0.5}), SLO.of({"e2e": 3, "goodput": 0.6})
    assert (met.values(result), met.missed(result), met.bounds()) == ({"goodput": 0.5}, [], {"goodput": 0.5})
    assert missed.missed(result) == ["goodput"]
    figures = missed.figures(result)
    assert (figures["met"], figures["goodput"], figures["request_bounds_s"]) == (False, 0.5, {"e2e": 3})
    assert SLO.of({"e2e": 3}).figures(result)["met"] is None
    assert not missed.bounds_queue
    assert SLO.of({"scheduling_delay_p50": 3}).bounds_queue


def test_a_run_that_is_cut_off_judges_only_requests_whose_deadlines_have_passed() -> None:
    # One request is served after another; each takes 8 s, the run ends after 21 s.
    requests = [(2.0 * number, 8, 8) for number in range(10)]
    result = serve(requests, VLLM(max_num_seqs=1), iteration_time=SECOND, time_limit_s=20)
    assert result.end_s == 21
    early, late = SLO.of({"e2e": 9, "goodput": 0.9}), SLO.of({"e2e": 30, "goodput": 0.9})
    # Arrived by 12 s: seven requests, of which the first alone is within 9 s.
    assert (early.goodput(result).num_good, early.goodput(result).num_judged) == (1, 7)
    assert early.figures(result)["met"] is False
    assert (late.goodput(result).share, late.figures(result)["met"], late.missed(result)) == (None, None, ["goodput"])
    # None arrived 30 s before the end, so no percentile of 30 s is known; 9 s are missed.
    assert SLO.of({"e2e_p90": 30}).values(result) == {"e2e_p90": None}
    assert SLO.of({"e2e_p90": 30}).figures(result)["met"] is None
    assert SLO.of({"e2e_p90": 9}).figures(result)["met"] is False


def test_the_tightest_bound_on_a_latency_defines_goodput() -> None:
    slo = SLO.of({"ttft_p99": 2, "ttft_p90": 1, "ttft": 0.1, "e2e_max": 9})
    assert {bound.name: bound.bound_s for bound in slo.request_bounds} == {"ttft": 0.1, "e2e": 9}


def test_ignored_and_lost_requests_are_not_good() -> None:
    result = serve([(0.0, 8, 2), (0.0, 50_000, 2)], VLLM(), iteration_time=SECOND)
    assert SLO.of({"ttft": 100}).goodput(result).share == 0.5


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


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("tbt_p0", 1),
        ("tbt_p101", 1),
        ("tbt", 1),
        ("goodput", 1),
        ("goodput", 1.5),
        ("ttft", -1),
        ("bla_p50", 1),
        ("tbt_median", 1),
        ("tbt_p99", 0),
        ("tbt_p99", "x"),
    ],
)
def test_an_invalid_objective_is_refused(name: str, bound: float) -> None:
    with pytest.raises(ValueError, match=name):
        SLO.of({name: bound})


def test_an_slo_may_be_empty() -> None:
    assert not SLO.of({})
    assert SLO.of({"ttft": 1})


def test_percentiles_may_have_decimals_and_are_exact() -> None:
    assert Distribution(np.arange(1.0, 1001.0)).statistic("p99.9") == 999
    assert rank(percentile_of("p99.9"), 1000) == 999
    assert Objective("tbt", "p99.9", 1.0).name == "tbt_p99.9"
