"""A limit on the requests in flight, as of a load generator with a rate and a concurrency limit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import Deployment, Result, simulate
from simulator.cluster import Fault, Faults
from simulator.config import load_config
from simulator.iteration_time import Affine
from simulator.log import FAILURE
from simulator.model import KVMemory, Parallelism
from simulator.results import FINISHED, NOT_ARRIVED
from simulator.schedulers import Sarathi, Scheduler
from tests.helpers import A100, POLICIES, single_server, tiny_model, trace_of
from traces import Arrivals, Trace
from traces.arrivals import ClosedLoop, Constant, Gamma, Poisson, Recorded, Sessions, Weibull
from traces.generators import ClientClass, Conversations, Geometric, Mix, Synthetic, Uniform

LENGTHS = Synthetic(Uniform(5, 60), Uniform(1, 40), None, 120).load(np.random.default_rng(0))


def serve(trace: Trace, scheduler: Scheduler | None = None, pp: int = 1, **options: object) -> Result:
    deployment = Deployment(
        tiny_model(1024),
        A100,
        scheduler or Sarathi(token_budget=64),
        Parallelism(pp=pp),
        Affine(),
        KVMemory(num_blocks=300),
        2,
    )
    return simulate(trace, deployment, check=True, **options)


def most_in_flight(result: Result) -> int:
    """Count sent requests that have not ended; one that ends at a time frees its place at that time."""
    sent_s, ended_s = result.requests["arrival_s"], result.requests["completed_s"]
    return max(int(np.count_nonzero((sent_s <= time_s) & (ended_s > time_s))) for time_s in sent_s)


def send_slowly(due_s: np.ndarray, ended_s: np.ndarray, limit: int) -> np.ndarray:
    """Return when requests are sent, given when they ended: a person with a stop watch, one request after the other."""
    sent_s: list[float] = []
    for due in due_s:
        now_s = due
        while sum(sent <= now_s < ended for sent, ended in zip(sent_s, ended_s, strict=False)) >= limit:
            now_s = min(ended for ended in ended_s[: len(sent_s)] if ended > now_s)
        sent_s.append(now_s)
    return np.array(sent_s)


@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize("limit", [1, 3, 17])
@pytest.mark.parametrize("scheduler", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_request_is_sent_when_it_is_due_or_when_a_place_is_free(scheduler: Scheduler, limit: int, pp: int) -> None:
    due_s = Poisson(qps=300).assign(LENGTHS, np.random.default_rng(1)).arrival_s
    assert due_s is not None
    result = serve(LENGTHS.arriving(due_s, max_concurrency=limit), scheduler, pp)
    assert (result.status == FINISHED).all()
    assert most_in_flight(result) == limit
    expected = send_slowly(due_s, result.requests["completed_s"], limit)
    assert np.array_equal(result.requests["arrival_s"], expected)
    assert limit <= np.count_nonzero(expected == due_s) < len(due_s) / 2


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 4.0, 9.5]), st.integers(1, 3), st.integers(1, 4)), min_size=1),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_any_requests_are_sent_as_by_a_slow_reference(requests: list[tuple[float, int, int]], limit: int) -> None:
    trace = replace(trace_of(sorted(requests)), max_concurrency=limit)
    result = simulate(trace, single_server(), check=True)
    assert trace.arrival_s is not None
    expected = send_slowly(trace.arrival_s, result.requests["completed_s"], limit)
    assert np.array_equal(result.requests["arrival_s"], expected)


def test_ttft_counts_from_the_sending() -> None:
    result = simulate(replace(trace_of([(0.0, 1, 3), (0.0, 1, 2)]), max_concurrency=1), single_server())
    assert result.requests["arrival_s"].tolist() == [0.0, 3.0]
    assert result.requests["first_token_s"].tolist() == [1.0, 4.0]
    assert result.summary["ttft_s"]["max"] == 1.0


@pytest.mark.parametrize("policy", [POLICIES[0], POLICIES[-1]], ids=["sarathi", "vllm_v1"])
def test_all_at_once_with_a_limit_is_a_closed_loop_without_think_times(policy: Scheduler) -> None:
    at_once = Constant(qps=np.inf, max_concurrency=7).assign(LENGTHS, np.random.default_rng(0))
    users = ClosedLoop(users=7).assign(LENGTHS, np.random.default_rng(0))
    tables = [serve(trace, policy).requests for trace in (at_once, users)]
    for name in ("arrival_s", "first_scheduled_s", "completed_s", "replica"):
        assert np.array_equal(tables[0][name], tables[1][name])


def test_the_limit_counts_the_front_end() -> None:
    """A client knows of an end when the front end has sent the last token."""
    deployment = load_config("deployment=vllm_v1_llama3_8b_h100")["deployment"]
    trace = Poisson(qps=30, max_concurrency=4).assign(LENGTHS, np.random.default_rng(0))
    result = simulate(trace, deployment, check=True)
    due_s = Poisson(qps=30).assign(LENGTHS, np.random.default_rng(0)).arrival_s
    assert due_s is not None
    later_s = result.requests["arrival_s"] - send_slowly(due_s, result.requests["completed_s"], 4)
    # Tokens of requests that are already in the next batch are sent before the end is known.
    assert np.all((later_s > -1e-9) & (later_s < 2e-4))
    assert np.count_nonzero(result.requests["arrival_s"] > due_s) > 50


def test_a_limit_that_is_never_reached_changes_nothing() -> None:
    free, limited = (
        serve(Poisson(qps=20, max_concurrency=limit).assign(LENGTHS, np.random.default_rng(0)))
        for limit in (None, len(LENGTHS))
    )
    assert free.summary == limited.summary


def test_turns_that_wait_need_a_place_too() -> None:
    chats = Conversations(Geometric(3), Uniform(5, 60), Uniform(1, 40), 900, num_requests=100)
    trace = chats.load(np.random.default_rng(0))
    arrivals = Sessions(qps=20, think_s=0.5, max_concurrency=3)
    trace = arrivals.assign(trace, np.random.default_rng(0))
    result = serve(trace)
    assert (result.status == FINISHED).all()
    assert most_in_flight(result) == 3
    assert trace.think_s is not None
    session, turn = trace.turns()
    order = np.lexsort((turn, session))
    later = np.flatnonzero(turn[order] > 0)
    current, previous = order[later], order[later - 1]
    due_s = result.requests["completed_s"][previous] + trace.think_s[current]
    assert np.all(result.requests["arrival_s"][current] >= due_s)


def test_requests_that_are_refused_or_lost_free_their_places() -> None:
    long = LENGTHS.prompt_tokens.copy()
    long[::3] = 5000
    trace = Constant(qps=np.inf, max_concurrency=2).assign(
        replace(LENGTHS, prompt_tokens=long), np.random.default_rng(0)
    )
    assert serve(trace).num_by_status["num_ignored"] == 40
    assert serve(trace).num_by_status["num_finished"] == 80
    faults = Faults([Fault(FAILURE, 1.0, 0.5, None)], on_failure="lose")
    trace = Constant(qps=np.inf, max_concurrency=5).assign(LENGTHS, np.random.default_rng(0))
    result = serve(trace, faults=faults)
    assert result.num_by_status["num_lost"] >= 5
    assert result.num_by_status["num_lost"] + result.num_by_status["num_finished"] == len(LENGTHS)


def test_requests_that_are_not_sent_in_time_have_no_arrival_time() -> None:
    trace = Constant(qps=np.inf, max_concurrency=2).assign(LENGTHS, np.random.default_rng(0))
    result = serve(trace, time_limit_s=3.0)
    unsent = result.status == NOT_ARRIVED
    assert 0 < np.count_nonzero(unsent) < len(LENGTHS)
    assert np.array_equal(np.isnan(result.requests["arrival_s"]), unsent)
    assert result.end_s < 4


PROCESSES: list[Arrivals] = [Poisson(np.inf), Constant(np.inf), Gamma(np.inf, cv=2), Weibull(np.inf, cv=2)]


@pytest.mark.parametrize("arrivals", PROCESSES, ids=lambda process: type(process).__name__)
def test_all_requests_arrive_at_0_at_an_infinite_rate(arrivals: Arrivals) -> None:
    arrival_s = arrivals.assign(LENGTHS, np.random.default_rng(0)).arrival_s
    assert arrival_s is not None
    assert arrival_s.tolist() == [0.0] * len(LENGTHS)


def test_the_configuration_sets_the_limit() -> None:
    for process in ("poisson", "gamma", "weibull", "constant", "bursts", "diurnal"):
        loaded = load_config(f"arrival={process}", "arrival.max_concurrency=3", "trace.num_requests=5")
        assert loaded["trace"].max_concurrency == 3
    recorded = Recorded(speed=2, max_concurrency=4).assign(
        trace_of([(1.0, 1, 1), (3.0, 1, 1)]), np.random.default_rng(0)
    )
    assert recorded.arrival_s is not None
    assert (recorded.arrival_s.tolist(), recorded.max_concurrency) == ([0.5, 1.5], 4)


def test_a_class_of_a_mix_has_no_limit_of_its_own() -> None:
    limited = ClientClass(Synthetic(Uniform(5, 60), Uniform(1, 40), None), Poisson(qps=1, max_concurrency=2))
    with pytest.raises(ValueError, match=r"clients: a class of a mix has no concurrency limit of its own"):
        Mix({"a": limited}, 50).load(np.random.default_rng(0))
