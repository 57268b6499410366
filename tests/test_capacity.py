"""The highest load within an SLO."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.capacity import Bisection, Trial, find_capacity, load_capacity
from simulator.capacity.report import confidence_interval, summarize
from simulator.config import ConfigError
from tests.helpers import command

QUICK = ("trace=fixed", "trace.num_requests=60", "iteration_time=affine")


def search(highest: float, **settings_: float) -> tuple[float, list[float]]:
    """Search for a capacity of `highest`; return what the search found and the rates it tried."""
    capacity = find_capacity(
        lambda qps: Trial(qps, missed=[] if qps <= highest else ["tbt_p99"]),
        Bisection(**{"start_qps": 1.0, **settings_}),  # type: ignore[arg-type]
    )
    return capacity.qps, [trial.qps for trial in capacity.trials]


@given(st.floats(0.02, 500), st.floats(0.01, 100))
@settings(deadline=None)
def test_the_search_ends_within_the_granularity_below_the_capacity(highest: float, start_qps: float) -> None:
    qps, tried = search(highest, start_qps=start_qps, max_trials=100)
    assert qps <= highest
    assert highest - qps <= max(0.026 * highest, 0.0201)
    assert len(tried) == len(set(tried))
    assert all(round(rate, 2) == rate for rate in tried)


def test_the_search_bisects_as_the_published_one_does() -> None:
    assert search(0.77, start_qps=4) == (0.77, [4, 2, 1, 0.5, 0.75, 0.88, 0.82, 0.78, 0.76, 0.77])
    # The bracket starts at twice the first rate and moves up while its upper end is within the SLO.
    assert search(5.0, start_qps=1)[1][:5] == [1, 2, 4, 8, 6]


def test_a_deployment_that_misses_the_slo_at_every_rate_has_capacity_0() -> None:
    qps, tried = search(0.0, start_qps=1)
    assert qps == 0
    assert min(tried) == 0.01


def test_trials_and_resolution_are_adjustable() -> None:
    assert len(search(3.3, start_qps=100, max_trials=4)[1]) == 4
    assert search(3.3, resolution_qps=0.5)[0] == 3.0
    assert search(3.3, granularity=0.4)[0] in (2, 3)


def test_the_result_names_the_bracket_and_the_binding_objective() -> None:
    def run(qps: float) -> Trial:
        return Trial(qps, missed=["ttft_p90", "tbt_p99"] if qps > 2 else [])

    capacity = find_capacity(run, Bisection(start_qps=1.5))
    assert capacity.bracket == (1.97, 2.02)
    assert capacity.binding == "ttft_p90"
    assert capacity.best == Trial(1.97, missed=[])


def test_the_confidence_interval_uses_students_t() -> None:
    assert confidence_interval([1.0]) is None
    low, high = confidence_interval([1.0, 2.0, 3.0]) or (0, 0)
    assert (low, high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


def test_the_capacity_is_the_throughput_of_the_engine() -> None:
    # Requests of one token: an iteration takes 0.1 s for up to 4 of them, so 40 a second can be served.
    task = load_capacity(
        "trace=fixed",
        "trace.prompt_tokens=10",
        "trace.output_tokens=1",
        "trace.num_requests=4000",
        "arrival=constant",
        "scheduler.max_num_seqs=4",
        "iteration_time=affine",
        "iteration_time.base_s=0.1",
        "iteration_time.per_token_s=0",
        "slo=none",
        "slo.scheduling_delay_p50=1",
    )
    capacity = find_capacity(task.experiment.trials(0), task.search)
    assert 40 <= capacity.qps <= 41.5
    assert capacity.binding == "scheduling_delay_p50"


def test_derived_bounds_are_multiples_of_a_decode_iteration() -> None:
    affine = ("iteration_time=affine", "iteration_time.base_s=0.02", "iteration_time.per_token_s=0.001")
    for name, times in (("strict", 5), ("relaxed", 25)):
        task = load_capacity(*QUICK, *affine, f"slo={name}")
        assert task.experiment.slo.bounds()["tbt_p99"] == pytest.approx(times * (0.02 + 32 * 0.001))
        assert task.experiment.slo.bounds()["scheduling_delay_p50"] == 2
    by_model = {"deployment=yi_34b_a100_tp2": (0.2, 1), "deployment=mistral_7b_a100": (0.1, 0.5)}
    for deployment, bounds in by_model.items():
        for name, bound in zip(("paper_strict", "paper_relaxed"), bounds, strict=True):
            assert load_capacity(*QUICK, deployment, f"slo={name}").experiment.slo.bounds()["tbt_p99"] == bound


def test_only_the_objectives_that_are_given_bind() -> None:
    task = load_capacity(*QUICK, "slo.ttft_p90=2")
    assert (sorted(task.experiment.slo.bounds()), task.has_default_slo) == (["ttft_p90"], False)
    default = load_capacity(*QUICK)
    assert (sorted(default.experiment.slo.bounds()), default.has_default_slo) == (
        ["scheduling_delay_p50", "tbt_p99"],
        True,
    )
    added = load_capacity(*QUICK, "slo=relaxed", "slo.ttft_p90=2", "slo.scheduling_delay_p50=null").experiment.slo
    assert sorted(added.bounds()) == ["tbt_p99", "ttft_p90"]


def test_a_bound_on_single_requests_needs_a_share_of_them() -> None:
    with pytest.raises(ConfigError, match=r"slo.ttft bounds single requests: add slo.goodput=0.9"):
        load_capacity(*QUICK, "slo.ttft=2")
    slo = load_capacity(*QUICK, "slo.ttft=2", "slo.goodput=0.9").experiment.slo
    assert slo.bounds() == {"goodput": 0.9}
    assert [bound.name for bound in slo.request_bounds] == ["ttft"]
    with pytest.raises(ConfigError, match="goodput needs a bound on each request"):
        load_capacity(*QUICK, "slo.tbt_p99=2", "slo.goodput=0.9")


def test_goodput_can_bind_a_capacity() -> None:
    task = load_capacity(*QUICK, "slo.tpot=0.05", "slo.goodput=0.9")
    capacity = find_capacity(task.experiment.trials(0), task.search)
    assert capacity.binding == "goodput"
    assert capacity.best is not None
    assert capacity.best.goodput == capacity.best.values["goodput"]
    assert (capacity.best.goodput or 0) >= 0.9
    missed = [trial for trial in capacity.trials if trial.missed]
    assert all((trial.goodput or 0) < 0.9 for trial in missed)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["slo.tbt_p99=0"], "slo.tbt_p99"),
        (["slo.bla_p99=1"], "bla_p99"),
        (["slo.tbt_p99={x: 1}"], "slo.tbt_p99"),
        (["slo=paper_strict", "model=llama3_8b"], "llama3_8b"),
        (["arrival=trace"], "arrival"),
        (["capacity.start_qps=0"], "capacity.start_qps"),
        (["capacity.granularity=1"], "capacity.granularity"),
        (["capacity.max_trials=0"], "capacity.max_trials"),
        (["capacity.seeds=0"], "capacity.seeds"),
        (["capacity.bla=0"], "capacity.bla"),
    ],
)
def test_mistakes_are_named(overrides: list[str], name: str) -> None:
    with pytest.raises(ConfigError, match=name) as error:
        load_capacity(*QUICK, *overrides)
    assert "\n" not in str(error.value)


def test_percentiles_with_decimals_can_be_written_on_the_command_line() -> None:
    assert load_capacity(*QUICK, "slo.ttft_p99.9=2").experiment.slo.bounds()["ttft_p99.9"] == 2


def test_a_trial_in_which_nobody_is_measured_is_an_error() -> None:
    task = load_capacity(*QUICK, "metrics.warmup_s=1e9")
    with pytest.raises(ValueError, match=r"no request of the trial at .* is measured"):
        find_capacity(task.experiment.trials(0), task.search)
    task = load_capacity(*QUICK, "time_limit_s=1e-6")
    with pytest.raises(ValueError, match="no request arrives by then"):
        find_capacity(task.experiment.trials(0), task.search)


def test_requests_that_the_engine_ignores_are_no_load() -> None:
    task = load_capacity("trace=uniform", "trace.num_requests=60", "model.max_model_len=1024", "iteration_time=affine")
    with pytest.raises(ValueError, match=r"\d+ of 60 requests are longer than the engine admits.*max_total_tokens"):
        find_capacity(task.experiment.trials(0), task.search)


def test_a_growing_queue_is_no_capacity_even_if_nothing_bounds_the_waiting() -> None:
    overrides = ("trace=fixed", "trace.num_requests=400", "iteration_time=affine", "scheduler.max_num_seqs=4")
    task = load_capacity(*overrides, "slo.tbt_p99=10")
    capacity = find_capacity(task.experiment.trials(0), task.search)
    assert capacity.binding == "overload"
    at_most = load_capacity(*overrides, "slo.scheduling_delay_p50=2")
    assert capacity.qps == pytest.approx(find_capacity(at_most.experiment.trials(0), at_most.search).qps, rel=0.2)


def test_a_capacity_of_one_burst_says_so() -> None:
    # Answers of 500 tokens take 10 s or more, and all 200 requests arrive within 2 s.
    overrides = ("trace=fixed", "trace.num_requests=200", "trace.prompt_tokens=10", "trace.output_tokens=500")
    policy = ("scheduler=vllm", "scheduler.max_num_seqs=256", "iteration_time=affine", "iteration_time.base_s=0.02")
    task = load_capacity(*overrides, *policy, "slo.tbt_p99=10", "capacity.start_qps=100", "capacity.max_trials=1")
    warnings = summarize(task, [find_capacity(task.experiment.trials(0), task.search)])["warnings"]
    assert any("requests arrive for less time than two of them take" in warning for warning in warnings)


def test_the_command_writes_and_prints_the_capacity(tmp_path: Path) -> None:
    arguments = [*QUICK, "slo.ttft_p90=2", "capacity.seeds=3", "hydra.run.dir=out"]
    outputs = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        done = command(tmp_path / folder, "simulator.capacity", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        outputs.append((tmp_path / folder / "out" / "capacity.json").read_bytes())
    assert outputs[0] == outputs[1]
    report = json.loads(outputs[0])
    rates = [row["capacity_qps"] for row in report["seeds"]]
    assert report["capacity_qps"] == pytest.approx(sum(rates) / 3)
    assert report["confidence_interval_qps"][0] <= report["capacity_qps"] <= report["confidence_interval_qps"][1]
    assert report["bracket_qps"][0] == rates[0] < report["bracket_qps"][1]
    assert report["binding"] in (*report["slo"], "overload")
    assert {trial["met"] for trial in report["trials"]} == {True, False}
    for text in ("capacity", "bound by", "SLO", "goodput", "95 % confidence"):
        assert text in done.stdout
