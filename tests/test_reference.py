"""The fast simulator gives exactly the results of a slow, obvious one."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.iteration_time import Affine
from simulator.results.tokens import token_gaps
from simulator.schedulers import VLLM, FasterTransformer, Orca, Sarathi, Scheduler
from tests import slow_reference
from tests.strategies import Workload, policies_of_2024, serve_workload, workloads

COST = Affine(base_s=0.011, per_token_s=0.0003, per_context_token_s=0.00001)


def slow_case(workload: Workload, policy: Scheduler) -> slow_reference.Case:
    case = slow_reference.Case(
        scheduler="",
        requests=workload.requests,
        max_num_seqs=workload.max_num_seqs,
        max_model_len=workload.max_model_len,
        pp=workload.pp,
        num_blocks=workload.num_blocks,
        watermark=workload.watermark,
        base_s=COST.base_s,
        per_token_s=COST.per_token_s,
        per_context_token_s=COST.per_context_token_s,
    )
    match policy:
        case Sarathi():
            dynamic = policy.dynamic_chunks
            sizes = (dynamic.stages, dynamic.low, dynamic.high, dynamic.max_tokens) if dynamic.stages else None
            return replace(case, scheduler="sarathi", token_budget=policy.token_budget, dynamic_chunks=sizes)
        case VLLM():
            return replace(case, scheduler="vllm", max_num_batched_tokens=policy.max_num_batched_tokens)
        case Orca():
            return replace(case, scheduler="orca")
        case FasterTransformer():
            return replace(case, scheduler="faster_transformer")
    raise AssertionError(policy)


def check_against_reference(workload: Workload, policy: Scheduler) -> None:
    slow = slow_reference.simulate(slow_case(workload, policy))
    fast = serve_workload(workload, policy, COST)
    replica = fast.replicas[0]
    assert replica.members == [row.members for row in slow.rows]
    for name in ("schedule_s", "start_s", "end_s", "context_tokens", "free_blocks"):
        assert replica.iterations[name].tolist() == [getattr(row, name) for row in slow.rows], name
    for name in ("first_scheduled_s", "first_token_s", "completed_s"):
        expected = [np.nan if value is None else value for value in getattr(slow, name)]
        assert np.array_equal(fast.requests[name], expected, equal_nan=True), name
    assert fast.requests["num_preemptions"].tolist() == slow.num_preemptions
    assert fast.requests["ignored"].tolist() == slow.ignored
    gaps, weights = token_gaps([replica.tokens], np.ones(len(workload.requests), dtype=bool))
    expected_gaps = [gap for times in slow.token_times for gap in np.diff(times)]
    assert np.array_equal(np.sort(np.repeat(gaps, weights)), np.sort(expected_gaps))


@given(workloads(), st.data())
@settings(max_examples=1000, deadline=None)
def test_fast_and_slow_simulators_agree(workload: Workload, data: st.DataObject) -> None:
    check_against_reference(workload, data.draw(policies_of_2024(workload.max_num_seqs)))
