"""Verdicts of reports in words, and curves with fewer points."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from bokeh.models import Scatter

from simulator import simulate
from simulator.config import load_config
from simulator.report.charts import Axis, new_drawing
from simulator.report.curves import Curves, draw_curves
from simulator.report.thinning import SHARES, interval_means, kept_steps, quantiles, shared_steps
from simulator.report.verdict import comparison, verdict
from simulator.results import Steps, output_tokens

FEW = ("trace=sharegpt", "trace.num_requests=30", "arrival.qps=2")


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    result = simulate(**load_config("scheduler=vllm", *FEW))
    return result.summary | {"slo": None, "clients": [], "warnings": []}


def changed(summary: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return a summary with other values; "tbt_s__p99" is a key inside a key."""
    copy = deepcopy(summary)
    for name, value in values.items():
        *outer, key = name.split("__")
        node = copy[outer[0]] if outer else copy
        node[key] = value
    return copy


def text_of(sentences: list[tuple[str, str]]) -> str:
    return " ".join(f"{names}: {sentence}" if names else sentence for names, sentence in sentences)


def test_the_better_run_is_named_with_both_values(summary: dict[str, Any]) -> None:
    slow = changed(summary, tbt_s__p99=0.42, ttft_s__p90=1.0)
    fast = changed(summary, tbt_s__p99=0.07, ttft_s__p90=1.01)
    text = text_of(comparison({"vllm": slow, "sarathi": fast}))
    assert "sarathi: TBT p99 70 ms against 420 ms of vllm." in text
    assert "The same (within 2%): TTFT p90, TPOT p50, E2E p50" in text
    assert "No run is overloaded." in text


def test_each_run_is_named_for_what_it_is_better_in(summary: dict[str, Any]) -> None:
    one, two = changed(summary, ttft_s__p90=3.0), changed(summary, tbt_s__p99=9.0, e2e_s__p50=100.0, ttft_s__p90=2.0)
    found = dict(comparison({"one": one, "two": two}))
    assert found["one"].startswith("TBT p99 ")
    assert "E2E p50" in found["one"]
    assert found["two"] == "TTFT p90 2 s against 3 s of one."


def test_runs_that_are_equally_good_are_named_together(summary: dict[str, Any]) -> None:
    runs = {
        name: changed(summary, tbt_s__p99=value) for name, value in (("a", 0.1), ("b", 0.101), ("c", 0.2), ("d", 0.3))
    }
    assert "a and b: TBT p99 100 ms against 200 ms to 300 ms of the other 2." in text_of(comparison(runs))


def test_overload_slo_and_lost_requests_are_named(summary: dict[str, Any]) -> None:
    slo = {"objectives": [{"name": "tbt_p99", "bound": 1.0, "value": 0.1}], "met": True, "goodput": 0.9}
    good = changed(summary, slo=slo)
    bad = changed(
        summary, slo={**slo, "met": False, "goodput": 0.5}, overloaded=True, num_unfinished=3, requests_per_s=0.1
    )
    text = text_of(comparison({"good": good, "bad": bad}))
    assert "bad: overloaded: latencies depend on the length of the trace." in text
    assert "good: SLO met." in text
    assert "bad: SLO missed." in text
    assert "goodput 90.0% against 50.0%" in text
    assert "requests/s served" in text
    assert "bad: of 30 requests, 3 unfinished." in text


def test_prices_count_where_they_differ(summary: dict[str, Any]) -> None:
    cheap, dear = (changed(summary, cluster__cost_per_hour_usd=usd) for usd in (1.0, 2.0))
    assert "price per hour $1.00 against $2.00 of dear" in text_of(comparison({"cheap": cheap, "dear": dear}))
    assert "price per hour" not in text_of(comparison({"one": cheap, "two": cheap}))


def test_a_verdict_on_one_run_states_its_troubles(summary: dict[str, Any]) -> None:
    text = verdict(
        changed(summary, overloaded=True, num_stuck=2, num_lost=1, num_preemptions=7, faults__num_failures=1)
    )
    assert "; overloaded: latencies depend on the length of the trace; " in text
    assert "7 preemptions" in text
    assert "of 30 requests, 2 stuck and 1 lost" in text
    assert "1 failure with 0 requests retried" in text
    assert "; not overloaded; " in verdict(summary)
    assert "SLO" not in verdict(summary)


def test_values_that_were_not_measured_are_left_out(summary: dict[str, Any]) -> None:
    unknown = changed(summary, tbt_s__p99=None, arrivals_per_s=None, cluster__cost_per_million_output_tokens_usd=None)
    text = text_of(comparison({"one": summary, "two": unknown}))
    assert "TBT" not in text
    assert "cost" not in text
    assert verdict(unknown).startswith("TTFT p90 ")
    assert verdict(changed(unknown, ttft_s__p90=None)).startswith("no token was measured; not overloaded; ")


def test_thinned_steps_keep_both_ends_of_the_longest_pauses() -> None:
    gaps = np.full(50_000, 0.01)
    gaps[[77, 31_234]] = 5.0, 3.0
    time_s = np.cumsum(gaps)
    kept = kept_steps(time_s, 3000)
    assert len(kept) <= 3000
    assert {0, 76, 77, 31_233, 31_234, len(gaps) - 1} <= set(kept.tolist())
    assert np.diff(kept).max() <= len(gaps) / 1400
    assert kept_steps(time_s[:10], 3000).tolist() == list(range(10))


def test_thinned_tokens_are_exact_where_they_are_drawn() -> None:
    result = simulate(**load_config("scheduler=vllm", "trace=sharegpt", "trace.num_requests=400", "arrival.qps=1"))
    tokens = output_tokens(result)
    other = Steps(tokens.time_s + 0.001, tokens.value)
    time_s, values = shared_steps({0: tokens, 1: other}, (0.0, result.end_s))
    assert len(tokens.time_s) > 6000 > len(time_s)
    assert (values[0] == tokens.at(time_s)).all()
    assert (values[1] == other.at(time_s)).all()
    assert values[0][-1] == result.requests["output_tokens"].sum()


def test_cdfs_have_the_exact_percentiles() -> None:
    result = simulate(**load_config("scheduler=vllm", "trace=sharegpt", "trace.num_requests=100", "arrival.qps=2"))
    for distribution in (result.latencies["tbt_s"], result.latencies["ttft_s"]):
        found = dict(zip(SHARES.tolist(), quantiles(distribution).tolist(), strict=True))
        for share, statistic in ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"), (1.0, "max")):
            assert found[share] == distribution.statistic(statistic)


def test_interval_means_are_of_iterations_that_end_in_them_or_go_on() -> None:
    first = np.array([0.0, 0.5, 1.0]), np.array([0.5, 1.0, 1.5]), np.array([10.0, 20.0, 30.0])
    second = np.array([0.0, 2.5]), np.array([0.25, 5.0]), np.array([40.0, 50.0])
    means = interval_means([first, second], np.arange(7.0))
    assert means.tolist()[:5] == [70 / 3, 30.0, 50.0, 50.0, 50.0]
    assert np.isnan(means[5])


def test_decodes_per_iteration_of_a_slow_model_never_fall_to_zero() -> None:
    """One iteration lasts many intervals: none may look like a pause."""
    one = ("trace=fixed", "trace.num_requests=1", "trace.prompt_tokens=100", "trace.output_tokens=20")
    (replica,) = simulate(**load_config("scheduler=orca", *one)).replicas
    log = replica.logged
    edges = np.linspace(log.columns["start_s"][0], log.end_s[-1], 1001)
    values = log.columns["start_s"], log.end_s, log.columns["num_decodes"]
    means = interval_means([values], edges)
    assert (means[edges[:-1] > log.end_s[0]] == 1).all()


def test_a_value_between_two_gaps_is_drawn_as_a_dot() -> None:
    axes = Axis("time, s"), Axis("decodes")
    drawing = new_drawing(*axes)
    values = np.array([1.0, np.nan, 5.0, np.nan, 2.0, 2.0])
    draw_curves(drawing, axes, Curves(np.arange(6.0), {0: values}), {0: ""})
    (dots,) = [drawn for drawn in drawing.renderers if isinstance(drawn.glyph, Scatter)]
    assert dots.data_source.data["x"].tolist() == [0.0, 2.0]
    assert dots.data_source.data["y"].tolist() == [1.0, 5.0]
