"""Laws of every scheduling policy; those added to `helpers.POLICIES` are tested too."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster import ReplicaSpec
from simulator.model import Placement
from simulator.replica import Batch, Replica, RequestTable
from simulator.results import FINISHED, IGNORED, STUCK
from simulator.schedulers import Scheduler
from tests.helpers import POLICIES, serve
from tests.strategies import Workload, policies, serve_workload, workloads

BUSY = [(0.02 * index, 30 + 11 * (index % 7), 1 + 5 * (index % 4)) for index in range(60)]


@given(workloads(), st.data())
@settings(max_examples=300, deadline=None)
def test_every_request_ends_exactly_once(workload: Workload, data: st.DataObject) -> None:
    result = serve_workload(workload, data.draw(policies(workload.max_num_seqs)))
    assert set(result.status) <= {FINISHED, IGNORED, STUCK}
    finished = result.status == FINISHED
    assert np.array_equal(finished, ~np.isnan(result.requests["completed_s"]))
    emitted = Counter(request for replica in result.replicas for request, _ in replica.tokens.prefill_ends.tolist())
    for replica in result.replicas:
        for request, _, joined, left in replica.tokens.decode_spans.tolist():
            emitted[request] += left - joined
    for request in np.flatnonzero(finished):
        assert emitted[request] == result.requests["output_tokens"][request]


@given(workloads(), st.data())
@settings(max_examples=300, deadline=None)
def test_times_are_in_order(workload: Workload, data: st.DataObject) -> None:
    table = serve_workload(workload, data.draw(policies(workload.max_num_seqs))).requests
    scheduled = ~np.isnan(table["first_scheduled_s"])
    assert np.all(table["arrival_s"][scheduled] <= table["first_scheduled_s"][scheduled])
    started = ~np.isnan(table["first_token_s"])
    assert np.all(table["first_scheduled_s"][started] < table["first_token_s"][started])
    finished = ~np.isnan(table["completed_s"])
    assert np.all(table["first_token_s"][finished] <= table["completed_s"][finished])


@given(workloads(), st.data())
@settings(max_examples=150, deadline=None)
def test_used_and_free_blocks_add_up_after_every_decision(workload: Workload, data: st.DataObject) -> None:
    policy = data.draw(policies(workload.max_num_seqs))
    replica = loaded_replica(workload, policy)
    for _ in range(2000):
        check_conservation(replica)
        flights = replica.in_flight.batches
        batch = ask(policy, replica) if len(flights) < depth_of(policy, workload.pp) else None
        if batch is not None:
            continue
        if not flights:
            break
        replica.finish()
        check_conservation(replica)


def loaded_replica(workload: Workload, policy: Scheduler) -> Replica:
    """Build a replica whose waiting queue has all requests."""
    prompts = [prompt for _, prompt, _ in workload.requests]
    totals = [prompt + output for _, prompt, output in workload.requests]
    spec = ReplicaSpec(
        policy,
        lambda _: [0.0],
        workload.num_blocks,
        16,
        workload.watermark,
        workload.max_model_len,
        placement=Placement(pp=workload.pp),
    )
    replica = spec.build(RequestTable([0.0] * len(prompts), list(prompts), totals, prompts))
    for request in range(len(prompts)):
        replica.enqueue(request)
    return replica


def depth_of(policy: Scheduler, pp: int) -> int:
    """Return the most batches in flight."""
    return pp + policy.limits.lookahead


def ask(policy: Scheduler, replica: Replica) -> Batch | None:
    """Ask the policy for the next batch and start it, as the engines do."""
    replica.begin_step()
    batch = policy.schedule(replica)
    replica.start()
    return batch


def check_conservation(replica: Replica) -> None:
    num_used = sum(replica.num_blocks_of(request) for request in replica.running)
    assert num_used + replica.free_blocks == replica.num_blocks
    assert replica.free_blocks >= 0
    for decode_set in replica.in_flight.sets():
        assert decode_set.num_requests == len(list(decode_set))
        assert decode_set.context_tokens == sum(decode_set.context_of(request) for request in decode_set)
        assert decode_set.num_new_blocks == sum(decode_set.needs_block(request) for request in decode_set)
    phases = [*replica.prefilling, *(request for decode_set in replica.in_flight.sets() for request in decode_set)]
    assert len(set(phases)) == len(phases)
    finishing = [request for flight in replica.in_flight.batches for request in flight.finishing]
    assert set(replica.running) == {*phases, *finishing}
    assert not set(replica.waiting) & set(replica.running)


@given(workloads(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_policy_keeps_nothing_between_calls(workload: Workload, data: st.DataObject) -> None:
    policy = data.draw(policies(workload.max_num_seqs))
    first, second = loaded_replica(workload, policy), loaded_replica(workload, policy)
    for _ in range(60):
        flights = first.in_flight.batches
        if len(flights) < depth_of(policy, workload.pp):
            batch, again = ask(policy, first), ask(replace(policy), second)
            assert fields_of(batch) == fields_of(again)
            if batch is not None:
                continue
        if not flights:
            break
        assert first.finish() == second.finish()


def fields_of(batch: Batch | None) -> object:
    return batch and {name: repr(getattr(batch, name)) for name in Batch.__slots__ if name != "decodes"}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("pp", [1, 2, 3])
def test_every_request_of_a_burst_is_served(policy: Scheduler, pp: int) -> None:
    result = serve(BUSY, policy, pp=pp)
    assert result.summary["num_finished"] == len(BUSY)
    assert result.summary["num_stuck"] == 0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("pp", [1, 2, 4])
def test_each_stage_runs_one_batch_at_a_time_and_the_depth_limits_batches_in_flight(policy: Scheduler, pp: int) -> None:
    iterations = serve(BUSY, policy, pp=pp).replicas[0].iterations
    starts, ends, decided = iterations["start_s"], iterations["end_s"], iterations["schedule_s"]
    assert np.all(np.diff(ends) > 0)
    assert np.all(starts >= decided)
    depth = depth_of(policy, pp)
    for index in range(depth, len(ends)):
        assert decided[index] >= ends[index - depth]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_policy_does_not_know_output_lengths(policy: Scheduler) -> None:
    """Until the first request ends, decisions do not depend on the output lengths."""
    short = serve([(0.0, 40, 9)] * 5, policy)
    long = serve([(0.0, 40, 90)] * 5, policy)
    num_batches = len(
        [end for end in short.replicas[0].iterations["end_s"] if end <= short.requests["completed_s"].min()]
    )
    assert num_batches > 5
    assert short.replicas[0].members[:num_batches] == long.replicas[0].members[:num_batches]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_the_same_input_gives_the_same_bytes(policy: Scheduler) -> None:
    summaries = [json.dumps(serve(BUSY, policy, num_blocks=80, pp=2).summary) for _ in range(2)]
    assert summaries[0] == summaries[1]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_an_idle_replica_with_waiting_requests_has_a_stated_reason(policy: Scheduler) -> None:
    result = serve([(0.0, 900, 3), (0.1, 5, 3)], policy, num_blocks=40)
    assert result.summary["num_stuck"] == 2
    (warning,) = [text for text in result.summary["warnings"] if "stuck" in text]
    assert "Request 0" in warning
    assert f"{result.replicas[0].num_blocks} in all" in warning


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_request_that_is_too_long_is_ignored_and_the_next_one_served(policy: Scheduler) -> None:
    result = serve([(0.0, 2000, 3), (0.0, 5, 3)], policy)
    assert result.requests["ignored"].tolist() == [1, 0]
    assert result.summary["num_finished"] == 1
