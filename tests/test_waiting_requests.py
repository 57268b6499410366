"""Requests that wait for others to finish: turns of sessions, and users of a closed loop."""

import dataclasses
import math

import numpy as np
import pytest

from simulator import Deployment, Result, simulate
from simulator.config import ConfigError, load_config
from simulator.iteration_time import Affine
from simulator.model import KVMemory, Parallelism
from simulator.routers import RoundRobin, Sticky
from simulator.schedulers import Sarathi, Scheduler
from tests.helpers import A100, POLICIES, single_server, tiny_model, trace_of
from traces import Trace
from traces.arrivals import ClosedLoop, Sessions
from traces.generators import Conversations, Geometric, Uniform

CHATS = Conversations(Geometric(3), Uniform(5, 60), Uniform(1, 40), 900, num_requests=200)


def chats(seed: int = 0, **arrivals: float) -> Trace:
    request_random, arrival_random = np.random.default_rng(seed).spawn(2)
    return Sessions(**({"qps": 5.0, "think_s": 1.0} | arrivals)).assign(CHATS.load(request_random), arrival_random)


def serve(
    trace: Trace, scheduler: Scheduler | None = None, pp: int = 1, replicas: int = 1, **options: object
) -> Result:
    deployment = Deployment(
        tiny_model(1024),
        A100,
        scheduler or Sarathi(token_budget=64),
        Parallelism(pp=pp),
        Affine(),
        KVMemory(num_blocks=300),
        replicas,
    )
    return simulate(trace, deployment, **options)


@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize("scheduler", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_turn_arrives_one_think_time_after_the_previous_answer(scheduler: Scheduler, pp: int) -> None:
    trace = chats()
    assert trace.think_s is not None
    table = serve(trace, scheduler, pp, replicas=2).requests
    session, turn = trace.turns()
    order = np.lexsort((turn, session))
    later = np.flatnonzero(turn[order] > 0)
    current, previous = order[later], order[later - 1]
    assert len(later) > 100
    assert np.array_equal(table["arrival_s"][current], table["completed_s"][previous] + trace.think_s[current])
    first = turn == 0
    assert np.array_equal(table["arrival_s"][first], trace.arrival_s[first])
    assert np.all(table["arrival_s"] <= table["first_scheduled_s"])
    assert np.all(table["first_scheduled_s"] < table["first_token_s"])
    assert np.all(table["first_token_s"] <= table["completed_s"])
    assert len(np.unique(table["replica"])) == 2


@pytest.mark.parametrize("think_s", [0.0, 0.5])
@pytest.mark.parametrize("scheduler", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_closed_loop_never_has_more_requests_than_users(scheduler: Scheduler, think_s: float) -> None:
    trace = trace_of([(0.0, 30, 12)] * 150)
    trace = ClosedLoop(users=7, think_s=think_s).assign(trace, np.random.default_rng(0))
    table = serve(trace, scheduler, replicas=3).requests
    assert not np.isnan(table["completed_s"]).any()
    changes = sorted([(time_s, 1) for time_s in table["arrival_s"]] + [(time_s, 0) for time_s in table["completed_s"]])
    present = np.cumsum([1 if change else -1 for _, change in changes])
    assert present.max() == 7
    if think_s == 0:
        # Until no request is left to send, each finished request is replaced at that instant.
        after = {time_s: count for (time_s, _), count in zip(changes, present.tolist(), strict=True)}
        assert {count for time_s, count in after.items() if time_s < table["arrival_s"].max()} == {7}
    # A user sends the next request of the trace.
    assert np.all(np.diff(table["arrival_s"][np.argsort(table["arrival_s"], kind="stable")]) >= 0)


def test_the_first_free_user_sends_the_next_request() -> None:
    """A long answer occupies one of two users, and the other sends all remaining requests."""
    trace = Trace(np.array([9, 9, 9, 9]), np.array([200, 2, 2, 2]))
    trace = ClosedLoop(users=2).assign(trace, np.random.default_rng(0))
    table = serve(trace).requests
    assert np.array_equal(table["arrival_s"][2:], table["completed_s"][1:3])
    assert table["completed_s"][0] == table["completed_s"].max()


def test_a_user_finishes_a_session_before_starting_the_next() -> None:
    trace = Trace(np.full(6, 9), np.full(6, 2), session=np.array([0, 0, 1, 1, 2, 2]))
    trace = ClosedLoop(users=1, think_s=2, think_cv=0).assign(trace, np.random.default_rng(0))
    table = serve(trace).requests
    assert np.array_equal(table["arrival_s"][1:], table["completed_s"][:-1] + 2)


def test_a_closed_queueing_network_has_the_throughput_of_mean_value_analysis() -> None:
    """Users think, then wait for a server with nearly exponential (geometric) service times."""
    users, think_s, mean_tokens, count = 8, 100.0, 20, 40_000
    output = np.random.default_rng(3).geometric(1 / mean_tokens, count)
    trace = ClosedLoop(users=users, think_s=think_s).assign(
        Trace(np.ones(count, dtype=np.int64), output), np.random.default_rng(1)
    )
    result = simulate(trace, single_server())
    queue = 0.0
    for present in range(1, users + 1):
        response_s = output.mean() * (1 + queue)
        throughput = present / (response_s + think_s)
        queue = throughput * response_s
    assert result.summary["requests_per_s"] == pytest.approx(throughput, rel=0.02)
    assert result.summary["e2e_s"]["mean"] == pytest.approx(response_s, rel=0.03)
    # Little's law: users = throughput * (response time + think time).
    spent_s = result.summary["e2e_s"]["mean"] + think_s
    assert result.summary["requests_per_s"] * spent_s == pytest.approx(users, rel=0.02)


def test_a_session_ends_at_an_ignored_turn() -> None:
    session = np.array([0, 0, 0, 1])
    trace = Trace(np.array([9, 5000, 9, 9]), np.array([2, 2, 2, 2]), session=session)
    trace = trace.arriving(np.array([0.0, math.nan, math.nan, math.nan]), np.array([math.nan, 1.0, 1.0, 3.0]))
    result = serve(trace)
    assert result.summary["num_finished"] == 2
    assert (result.summary["num_ignored"], result.summary["num_not_arrived"]) == (1, 1)
    assert np.isnan(result.requests["arrival_s"][2])
    # The user of the ignored turn is free to start the next session.
    assert result.requests["arrival_s"][3] > result.requests["arrival_s"][1] + 3 - 1e-9
    assert "1 turns were not sent: an earlier turn of their session was ignored or lost" in result.summary["warnings"]
    assert not any(warning.kind == "not_arrived" for warning in result.warnings)


def test_requests_after_the_time_limit_do_not_arrive() -> None:
    trace = ClosedLoop(users=2, think_s=1.0, think_cv=0).assign(trace_of([(0, 9, 2)] * 100), np.random.default_rng(0))
    result = serve(trace, time_limit_s=20.0)
    arrived = result.requests["arrival_s"][~np.isnan(result.requests["arrival_s"])]
    assert 20 < len(arrived) < 60
    assert arrived.max() <= 20
    assert result.summary["num_not_arrived"] == 100 - len(arrived)
    assert result.summary["num_finished"] == len(arrived)
    late = f"{100 - len(arrived)} requests would have arrived after the time limit"
    assert late in " ".join(result.summary["warnings"])


def test_a_trace_without_arrival_times_is_refused() -> None:
    trace = trace_of([(0, 9, 2)] * 2).arriving(np.full(2, math.nan), np.ones(2))
    with pytest.raises(ValueError, match="no request of the trace has an arrival time"):
        serve(trace)


def test_turns_of_a_session_stay_on_their_replica_only_if_sticky() -> None:
    trace = chats()
    assert trace.session is not None
    for router, is_sticky in ((Sticky(), True), (RoundRobin(), False)):
        replica = serve(trace, replicas=4, router=router).requests["replica"]
        num_replicas = [len(np.unique(replica[trace.session == session])) for session in np.unique(trace.session)]
        assert (max(num_replicas) == 1) == is_sticky


def test_waiting_turns_are_served_like_turns_at_the_same_given_times() -> None:
    waiting = serve(chats(), replicas=2)
    trace = chats()
    order = np.argsort(waiting.requests["arrival_s"], kind="stable")
    given = dataclasses.replace(trace, session=None, arrival_s=None, think_s=None).take(order)
    fixed = serve(given.arriving(waiting.requests["arrival_s"][order]), replicas=2)
    for name in ("first_scheduled_s", "first_token_s", "completed_s", "replica"):
        assert np.array_equal(waiting.requests[name][order], fixed.requests[name]), name
    for name in ("ttft_s", "tbt_s", "tpot_s", "e2e_s", "kv_use"):
        assert waiting.summary[name] == pytest.approx(fixed.summary[name], rel=1e-12)
    assert waiting.summary["num_iterations"] == fixed.summary["num_iterations"]


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [serve(chats(), replicas=2).requests for _ in range(2)]
    for name, values in runs[0].items():
        assert np.array_equal(values, runs[1][name]), name


def test_turns_that_do_not_wait_for_the_answer_are_reported() -> None:
    overrides = ["trace=sharegpt_sessions", "trace.num_requests=60", "arrival.qps=2"]
    fixed_times = simulate(**load_config(*overrides))
    table, turns = fixed_times.requests, load_config(*overrides)["trace"].turns()
    count = 0
    for session in np.unique(turns[0]):
        rows = np.flatnonzero(turns[0] == session)
        count += np.count_nonzero(table["arrival_s"][rows[1:]] < table["completed_s"][rows[:-1]])
    assert count > 10
    (text,) = [warning.text for warning in fixed_times.warnings if warning.kind == "early_turns"]
    assert text.startswith(f"{count} turns arrived before the previous turn of their session was answered; ")
    waiting = simulate(**load_config(*overrides, "arrival=sessions"))
    assert not any(warning.kind == "early_turns" for warning in waiting.warnings)


def test_a_capacity_warns_if_requests_did_not_arrive_at_its_rate() -> None:
    from simulator.capacity import load_capacity
    from simulator.capacity.__main__ import search
    from simulator.capacity.report import summarize

    for arrival, differs in (("diurnal", True), ("poisson", False)):
        task = load_capacity(
            f"arrival={arrival}", "trace=sharegpt", "trace.num_requests=400", "capacity.granularity=0.2"
        )
        summary = summarize(task, search(task))
        best = summary["at_capacity"]
        assert (abs(best["arrivals_per_s"] / best["qps"] - 1) > 0.2) == differs
        assert any("is the long-run rate of the arrival process" in text for text in summary["warnings"]) == differs


def test_users_without_requests_are_reported() -> None:
    trace = ClosedLoop(users=9).assign(trace_of([(0, 9, 2)] * 4), np.random.default_rng(0))
    assert [note.text for note in trace.notes] == ["only 4 of 9 users send requests, as the trace has no more sessions"]


def test_a_capacity_can_be_searched_with_sessions_but_not_in_a_closed_loop() -> None:
    from simulator.capacity import load_capacity

    task = load_capacity("trace=sharegpt_sessions", "arrival=sessions", "trace.num_requests=40")
    assert task.experiment.workload.at(3.0).arrivals == Sessions(qps=3.0)
    with pytest.raises(ConfigError, match="ClosedLoop has no rate"):
        load_capacity("arrival=closed_loop")
    with pytest.raises(ConfigError, match="arrival=sessions needs a trace with sessions"):
        load_config("arrival=sessions")
