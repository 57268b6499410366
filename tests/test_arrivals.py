"""Arrival processes have their configured rates and variations, within confidence intervals."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from traces import Arrivals, Trace
from traces.arrivals import (
    ClosedLoop,
    Constant,
    Gamma,
    MarkovModulated,
    Poisson,
    Recorded,
    Renewal,
    Sessions,
    VaryingRate,
    Weibull,
)

RUNS, REQUESTS = 40, 5000
CONFIDENCE = 0.9999


def requests(count: int) -> Trace:
    return Trace(np.full(count, 9), np.full(count, 3))


def times(arrivals: Arrivals, count: int, seed: int) -> NDArray[np.float64]:
    arrival_s = arrivals.assign(requests(count), np.random.default_rng(seed)).arrival_s
    assert arrival_s is not None
    return arrival_s


def assert_mean(estimates: list[float], expected: float, precision: float = 0.03) -> None:
    """Check that the confidence interval of the mean covers the expected value and is narrow enough."""
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(estimates) - 1) * np.std(estimates, ddof=1) / len(estimates) ** 0.5
    assert half < precision * expected
    assert abs(np.mean(estimates) - expected) <= half


INDEPENDENT: dict[str, tuple[Arrivals, float]] = {
    "poisson": (Poisson(qps=3), 1),
    "gamma, smooth": (Gamma(qps=3, cv=0.5), 0.5),
    "gamma, bursty": (Gamma(qps=0.2, cv=2), 2),
    "weibull, smooth": (Weibull(qps=3, cv=0.3), 0.3),
    "weibull, bursty": (Weibull(qps=40, cv=2), 2),
    "renewal, two kinds of gaps": (Renewal(qps=3, gaps=[0, 0, 2, 2], levels=[0, 0.4999999, 0.5, 1]), 1),
    "constant rate as a function of time": (VaryingRate(points=[[0, 3], [50, 3]], cv=0.5), 0.5),
    "starts of sessions of one turn": (Sessions(qps=3, cv=1.5), 1.5),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_gaps_have_the_configured_rate_and_variation(name: str) -> None:
    arrivals, cv = INDEPENDENT[name]
    trace, qps = requests(REQUESTS), getattr(arrivals, "qps", None) or 3
    if isinstance(arrivals, Sessions):
        trace = Trace(trace.prompt_tokens, trace.output_tokens, session=np.arange(REQUESTS))
    gaps = []
    for seed in range(RUNS):
        arrival_s = arrivals.assign(trace, np.random.default_rng(seed)).arrival_s
        assert arrival_s is not None
        gaps.append(np.diff(arrival_s, prepend=0.0) * qps)
    assert_mean([float(gap.mean()) for gap in gaps], 1)
    # The second moment of the gaps is unbiased, unlike their coefficient of variation.
    assert_mean([float(np.mean(gap**2)) for gap in gaps], 1 + cv**2, precision=0.15)


@pytest.mark.parametrize(
    ("arrivals", "distribution"),
    [
        (Poisson(qps=2), stats.expon(scale=0.5)),
        (Gamma(qps=2, cv=2), stats.gamma(0.25, scale=2)),
        (Weibull(qps=2, cv=5**0.5), stats.weibull_min(0.5, scale=0.25)),
    ],
    ids=["poisson", "gamma", "weibull"],
)
def test_gaps_follow_the_named_distribution(arrivals: Arrivals, distribution: Any) -> None:
    gaps = np.diff(times(arrivals, 20_000, seed=4), prepend=0.0)
    assert stats.kstest(gaps, distribution.cdf).pvalue > 1e-4
    assert stats.kstest(gaps * 1.2, distribution.cdf).pvalue < 1e-4


def test_constant_gaps_are_equal() -> None:
    assert times(Constant(qps=4.0), 5, seed=0).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("make", [Poisson, Constant, lambda qps: Gamma(qps, 2), lambda qps: Weibull(qps, 0.4)])
def test_gaps_scale_with_the_rate(make: Callable[[float], Arrivals]) -> None:
    slow, fast = times(make(1.0), 50, seed=3), times(make(4.0), 50, seed=3)
    assert fast * 4 == pytest.approx(slow)


def test_bursts_have_the_mean_and_the_variance_of_their_markov_chain() -> None:
    arrivals = MarkovModulated(qps=5, rates=[1, 8], dwell_s=[20, 5])
    calm, burst = arrivals.rates_qps
    assert burst == pytest.approx(8 * calm)
    assert (calm * 20 + burst * 5) / 25 == pytest.approx(5)
    window_s, num_windows = 30.0, 200
    means, variances = [], []
    for seed in range(RUNS):
        arrival_s = times(arrivals, int(5 * window_s * num_windows * 1.5), seed)
        counts = np.bincount((arrival_s // window_s).astype(int))[:num_windows]
        means.append(float(counts.mean()))
        variances.append(float(np.mean((counts - 5 * window_s) ** 2)))
    # Stationary variance of the counts of a two-state process (Fischer and Meier-Hellstern, 1993).
    leave_rate = 1 / 20 + 1 / 5
    covariance = 0.8 * 0.2 * (burst - calm) ** 2
    modulation = 2 * covariance * (window_s / leave_rate - (1 - np.exp(-leave_rate * window_s)) / leave_rate**2)
    assert_mean(means, 5 * window_s)
    assert_mean(variances, 5 * window_s + modulation, precision=0.1)


def test_dwell_times_that_are_too_short_for_the_trace_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dwell_s: stays of 0\.001 s are too short for a trace of"):
        times(MarkovModulated(qps=1e-6, dwell_s=[0.001, 0.001]), 5, seed=0)


def test_bursts_of_three_states_have_the_configured_rate() -> None:
    arrivals = MarkovModulated(qps=2, rates=[0, 1, 6], dwell_s=[3, 4, 2])
    assert_mean([float(np.count_nonzero(times(arrivals, 4000, seed) < 1200) / 1200) for seed in range(RUNS)], 2, 0.06)


def test_arrivals_follow_a_varying_rate() -> None:
    points = [[0, 1], [100, 5], [150, 5], [150.5, 0], [200, 0]]
    arrival_s = times(VaryingRate(points=points), 46_000, seed=0)
    period = arrival_s[: np.searchsorted(arrival_s, 80 * 200.0)] % 200
    edges = np.linspace(0, 200, 41)
    # Mean rate of each interval, from the midpoints of 200 parts, times its length of 5 s and 80 periods.
    midpoints = [np.linspace(low, high, 401)[1::2] for low, high in pairwise(edges)]
    expected = np.array([np.interp(times_s, *zip(*points, strict=True)).mean() for times_s in midpoints]) * 5 * 80
    counts = np.histogram(period, edges)[0]
    busy = expected > 1
    assert counts[~busy].sum() == 0
    assert stats.chi2.sf(np.sum((counts - expected)[busy] ** 2 / expected[busy]), busy.sum()) > 1e-4
    assert arrival_s[-1] > 80 * 200


def test_a_varying_rate_can_be_scaled_to_a_mean() -> None:
    arrivals = VaryingRate(points=[[0, 1], [60, 3], [120, 1]], qps=4)
    assert_mean([float(np.count_nonzero(times(arrivals, 4000, seed) < 600) / 600) for seed in range(RUNS)], 4)


def test_a_rate_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rate.csv"
    path.write_text("time_s,qps\n0,1\n60,3\n120,1\n")
    from_points, from_file = VaryingRate(points=[[0, 1], [60, 3], [120, 1]]), VaryingRate(path=str(path))
    assert np.array_equal(times(from_points, 100, seed=1), times(from_file, 100, seed=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_s,qps\n0,1\n60,x\n", "line 3: needs numbers in columns time_s and qps"),
        ("time,qps\n0,1\n", "line 2: needs numbers in columns time_s and qps"),
        ("time_s,qps\n0,1\n", "must be at least 2 pairs"),
        ("time_s,qps\n5,1\n60,1\n", "must have increasing times that start at 0"),
        ("time_s,qps\n0,0\n60,0\n", "must have rates of at least 0, one of them above 0"),
        ("time_s,qps\n0,nan\n60,0\n", "must be at least 2 pairs [seconds, rate] of finite numbers"),
    ],
)
def test_a_malformed_rate_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rate.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"rate\.csv") as error:
        times(VaryingRate(path=str(path)), 5, seed=0)
    assert message in str(error.value)


RECORDED = requests(4).arriving(np.array([1.0, 2.0, 2.0, 7.0]))


def test_recorded_times_are_replayed_at_any_speed() -> None:
    rng = np.random.default_rng(0)
    as_recorded = Recorded().assign(RECORDED, rng).arrival_s
    assert as_recorded is not None
    assert as_recorded.tolist() == [1.0, 2.0, 2.0, 7.0]
    fast = Recorded(speed=2).assign(RECORDED, rng).arrival_s
    assert fast is not None
    assert fast.tolist() == [0.5, 1.0, 1.0, 3.5]
    at_rate = Recorded(qps=3).assign(RECORDED, rng).arrival_s
    assert at_rate is not None
    assert at_rate[-1] - at_rate[0] == pytest.approx(3 / 3)


@pytest.mark.parametrize(
    ("arrivals", "trace", "message"),
    [
        (Recorded(), requests(3), "needs a trace with arrival times"),
        (
            Recorded(qps=1),
            requests(3).arriving(np.ones(3)),
            "qps needs a trace of requests that arrive at different times",
        ),
        (Sessions(qps=1), requests(3), "arrival=sessions needs a trace with sessions"),
        (
            Sessions(qps=1, think_s=None),
            Trace(np.ones(2, int), np.ones(2, int), session=np.zeros(2, int)),
            "think_s=null needs a trace with a think time in each later turn",
        ),
    ],
)
def test_the_error_names_what_the_trace_lacks(arrivals: Arrivals, trace: Trace, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arrivals.assign(trace, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gamma(qps=1, cv=0), "cv must be a number from 0.01 to 100, got 0"),
        (lambda: Weibull(qps=-1, cv=1), "qps must be a number from 1e-6 to 1e9, or inf, got -1"),
        (lambda: Renewal(qps=1, gaps=[1]), "gaps must be at least 2 numbers"),
        (lambda: Renewal(qps=1, gaps=[0, 1], levels=[0, 0.5]), "levels must be 2 numbers"),
        (lambda: Recorded(speed=0), "speed must be a number from 1e-9 to 1e9, got 0"),
        (lambda: Recorded(speed=2, qps=1), "speed and qps cannot both be given"),
        (lambda: MarkovModulated(qps=1, rates=[1]), "rates must be a list of 2 to 1000 numbers"),
        (lambda: MarkovModulated(qps=1, rates=[1, 2, 3]), "rates and dwell_s must be of equal length, got 3 and 2"),
        (lambda: MarkovModulated(qps=1, rates=[0, 0]), "rates must contain a rate above 0"),
        (lambda: MarkovModulated(qps=1, dwell_s=[1, 0]), "dwell_s[1] must be a number from 0.001 to 1e9, got 0"),
        (lambda: VaryingRate(), "points or path must be given, not both"),
        (lambda: VaryingRate(points=[[0, 1], [0, 1]]), "points must have increasing times that start at 0"),
        (lambda: VaryingRate(points=[1, 2]), "points must be at least 2 pairs"),
        (lambda: ClosedLoop(users=0), "users must be an integer from 1 to 1000000, got 0"),
        (lambda: ClosedLoop(users=1, think_s=-1), "think_s must be a number from 0 to 1e9, got -1"),
        (lambda: ClosedLoop(users=1, think_cv="x"), "think_cv must be a number from 0 to 100, got 'x'"),
        (lambda: Sessions(qps=1, think_s=-3), "think_s must be a number from 0 to 1e9 or null, got -3"),
    ],
)
def test_values_out_of_range_are_named(make: Callable[[], Arrivals], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        make()
    assert str(error.value).startswith(message)


CHATS = Trace(np.full(600, 9), np.full(600, 3), session=np.repeat(np.arange(200), 3))


def test_sessions_start_at_the_rate_of_the_requests_over_their_turns() -> None:
    starts, thinking = [], []
    for seed in range(RUNS):
        trace = Sessions(qps=6, think_s=20, think_cv=0.5).assign(CHATS, np.random.default_rng(seed))
        assert trace.arrival_s is not None
        assert trace.think_s is not None
        assert np.array_equal(np.isnan(trace.arrival_s), CHATS.turns()[1] > 0)
        starts.append(float(np.mean(np.diff(trace.arrival_s[::3], prepend=0.0))))
        thinking.append(trace.think_s[~np.isnan(trace.think_s)])
    assert_mean(starts, 3 / 6, precision=0.06)
    assert_mean([float(think_s.mean()) for think_s in thinking], 20)
    assert_mean([float(np.mean(think_s**2)) for think_s in thinking], 20**2 * 1.25, precision=0.05)


def test_users_of_a_closed_loop_start_within_the_ramp_and_other_sessions_wait() -> None:
    trace = ClosedLoop(users=4, think_s=3, think_cv=0, ramp_s=8).assign(CHATS, np.random.default_rng(0))
    assert trace.arrival_s is not None
    assert trace.think_s is not None
    known = ~np.isnan(trace.arrival_s)
    assert np.flatnonzero(known).tolist() == [0, 3, 6, 9]
    assert trace.arrival_s[known].tolist() == [0, 2, 4, 6]
    assert set(trace.think_s[~known].tolist()) == {3.0}
    all_sessions = ClosedLoop(users=900).assign(CHATS, np.random.default_rng(0))
    assert all_sessions.arrival_s is not None
    assert np.count_nonzero(~np.isnan(all_sessions.arrival_s)) == 200


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_gives_the_same_arrivals(seed: int) -> None:
    for arrivals, _ in INDEPENDENT.values():
        if not isinstance(arrivals, Sessions):
            assert np.array_equal(times(arrivals, 50, seed), times(arrivals, 50, seed))
            if not isinstance(arrivals, Constant):
                assert not np.array_equal(times(arrivals, 50, seed), times(arrivals, 50, seed + 1))
