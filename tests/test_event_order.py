"""Simultaneous events happen in a defined order."""

import pytest

from simulator.engine import ARRIVAL, Clock
from simulator.iteration_time import Affine
from simulator.schedulers import VLLM, Sarathi, Scheduler
from tests.helpers import POLICIES, serve

SECOND = Affine(base_s=1.0, per_token_s=0.0)


@pytest.mark.parametrize("policy", [Sarathi(), VLLM()], ids=["sarathi", "vllm"])
def test_an_arrival_is_seen_by_the_iteration_that_starts_at_the_same_time(policy: Scheduler) -> None:
    result = serve([(0.0, 10, 5), (2.0, 10, 2)], policy, iteration_time=SECOND)
    assert result.requests["first_scheduled_s"].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_requests_that_arrive_together_are_seen_by_the_same_decision(policy: Scheduler) -> None:
    result = serve([(1.0, 8, 2)] * 4, policy, iteration_time=SECOND)
    assert result.requests["first_scheduled_s"].tolist() == [1.0] * 4


def test_with_stages_a_completion_is_handled_before_the_arrivals_of_the_same_instant() -> None:
    # Two stages of half a second: the batch of request 0 completes at 1.0, when request 1 arrives. The decision after
    # the completion comes first and sees the arrival.
    result = serve([(0.0, 10, 3), (1.0, 10, 1)], Sarathi(), pp=2, iteration_time=SECOND)
    members = result.replicas[0].members
    assert members is not None
    assert members[1] == [(1, 10, True), (0, 1, False)]


def test_arrival_times_are_exact() -> None:
    arrivals = [0.1 * index for index in range(1, 200)]
    result = serve([(arrival_s, 5, 1) for arrival_s in arrivals], Sarathi(), iteration_time=Affine(0.001, 0.0))
    assert result.requests["first_scheduled_s"].tolist() == arrivals


def test_the_clock_jumps_to_a_time_before_which_no_event_is_due() -> None:
    clock = Clock()
    assert clock.wake_at(3.0, ARRIVAL) is None
    assert clock.now == 3.0
    event = clock.timeout(2.0)
    assert clock.wake_at(5.0, ARRIVAL) is not None
    clock.run(until=event)
    assert clock.now == 5.0
