"""Replicas of vLLM V1 that fail with batches in flight."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from simulator import Result
from simulator.cluster import Fault, Faults
from simulator.log import FAILURE
from simulator.results import FINISHED, STUCK, num_running, prefix_cache_hits, queue_length
from tests.slow_reference_vllm_v1 import Machine, Options, Request
from tests.test_vllm_v1 import served as serve_few
from tests.v1_cases import Case, random_case, served

# Some of the cases would go on forever.
LIMIT_S = 4.0


def emitted(result: Result, until_s: float = np.inf) -> Counter[int]:
    """Return the tokens that each request emitted before `until_s`."""
    num_tokens = Counter[int]()
    for log in (replica.tokens for replica in result.replicas):
        num_tokens.update(request for request, iteration in log.prefill_ends.tolist() if log.end_s[iteration] < until_s)
        for request, index, joined, left in log.decode_spans.tolist():
            iterations = np.flatnonzero(log.decode_set == index)[joined:left]
            num_tokens[request] += int(np.count_nonzero(log.end_s[iterations] < until_s))
    return num_tokens


def continued(case: Case, failed: Result, fault: Fault) -> tuple[Case, list[int]]:
    """Return the case that is left after the only failure of a replica, and the original index of each request."""
    stays = failed.stays
    order = stays.request[stays.arrived_s == fault.at_replica(0).end_s].tolist()
    order += [index for index, row in enumerate(case.requests) if row.arrival_s > fault.at_replica(0).end_s]
    num_emitted = emitted(failed, fault.at_s)
    requests = [
        replace(
            request,
            prompt_tokens=request.prompt_tokens + num_emitted[index],
            output_tokens=request.output_tokens - num_emitted[index],
            arrival_s=max(request.arrival_s, fault.at_replica(0).end_s),
        )
        for index, request in ((index, case.requests[index]) for index in order)
    ]
    return Case(requests, case.options, case.machine), order


def check_continuation(case: Case, fault: Fault) -> bool:
    """Compare a replica after a failure with one that never failed; return whether any request was left."""
    failed = served(case, LIMIT_S, Faults([fault]))
    rest, order = continued(case, failed, fault)
    if not order:
        return False
    after, fresh = failed.replicas[0], served(rest, LIMIT_S).replicas[0]
    first = int(np.searchsorted(after.iterations["schedule_s"], fault.at_replica(0).end_s))
    assert after.members is not None
    assert fresh.members is not None
    chunks = [[(request, num_tokens) for request, num_tokens, _ in batch] for batch in after.members[first:]]
    assert chunks == [[(order[index], num_tokens) for index, num_tokens, _ in batch] for batch in fresh.members]
    for name in ("schedule_s", "start_s", "end_s", "context_tokens", "free_blocks"):
        assert after.iterations[name][first:].tolist() == fresh.iterations[name].tolist(), name
    return True


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_a_restored_replica_schedules_like_a_new_one(first: int) -> None:
    num_compared = 0
    for seed in range(first, first + 50):
        random, case = Random(seed), random_case(seed)
        at_s = random.uniform(0.001, served(case, LIMIT_S).end_s)
        num_compared += check_continuation(case, Fault(FAILURE, at_s, random.uniform(0.001, 0.3), 0))
    assert num_compared > 40


@pytest.mark.parametrize("async_scheduling", [False, True])
@pytest.mark.parametrize("interval", [1, 2, 5])
def test_a_failure_resets_the_state_of_the_policy(interval: int, async_scheduling: bool) -> None:
    # Little memory, so that requests are preempted while in flight, whenever the replica fails.
    lengths = [(4, 5), (6, 4), (3, 5)]
    requests = [Request(str(number), 0.0, *length) for number, length in enumerate(lengths)]
    options = Options(
        8,
        8,
        prefill_schedule_interval=interval,
        async_scheduling=async_scheduling,
        scheduler_reserve_full_isl=False,
    )
    case = Case(requests, options, Machine(17, 1, 64, 2, False, 0.03, 0, 0))
    assert all(check_continuation(case, Fault(FAILURE, 0.004 * step + 0.001, 0.1, 0)) for step in range(40))


def random_faults(random: Random, num_replicas: int, until_s: float, on_failure: str) -> Faults:
    """Return failures at random times, some of all replicas, and a few without recovery."""
    schedule = [
        Fault(
            FAILURE,
            random.uniform(0, until_s),
            None if random.random() < 0.05 else random.uniform(0.001, 0.3),
            random.choice([None, *range(num_replicas)]),
        )
        for _ in range(random.randint(1, 6))
    ]
    return Faults(schedule, on_failure=on_failure, max_retries=random.choice([0, 3, 10]))


@pytest.mark.parametrize("on_failure", ["resume", "restart", "lose"])
@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("async_scheduling", [False, True])
@pytest.mark.parametrize("pp", [1, 2])
def test_every_request_ends_exactly_once_with_its_tokens(
    pp: int, async_scheduling: bool, caching: bool, on_failure: str
) -> None:
    num_failures = 0
    for seed in range(30):
        random, case = Random(seed), random_case(seed)
        machine = replace(case.machine, pp=pp, prefix_caching=caching)
        case = Case(case.requests, replace(case.options, async_scheduling=async_scheduling), machine)
        num_replicas = random.choice([1, 2])
        faults = random_faults(random, num_replicas, 1.5, on_failure)
        result = served(case, faults=faults, num_replicas=num_replicas)
        check_accounting(result)
        num_failures += result.summary["faults"]["num_failures"]
    assert num_failures > 30


def check_accounting(result: Result) -> None:
    """Assert that the figures of all requests and of the whole time add up."""
    summary, table = result.summary, result.requests
    assert sum(result.num_by_status.values()) == len(result.status)
    tokens = emitted(result)
    for request in np.flatnonzero(result.status == FINISHED).tolist():
        assert tokens[request] == table["output_tokens"][request]
    assert np.array_equal(result.status == FINISHED, ~np.isnan(table["completed_s"]))
    assert (result.status != STUCK).all() or any("stuck" in text for text in result.summary["warnings"])
    if summary["busy_fraction"] is not None:
        shares = [summary["busy_fraction"], *summary["bubbles"].values()]
        assert np.sum(shares, axis=0) == pytest.approx(1)
        assert min(map(min, shares)) >= -1e-9
    if summary["prefix_cache"] is not None:
        _, hits = prefix_cache_hits(result)
        assert (hits.value[-1] if len(hits.value) else 0) == table["cached_tokens"].sum()


def test_a_request_that_finishes_while_it_waits_leaves_the_queue_after_a_failure_too() -> None:
    # As without a failure, the second request is preempted while its last token is in flight. The earlier failure, with
    # both requests running, changes nothing.
    failure = Faults([Fault(FAILURE, 0.2, 0.8, 0)])
    options: dict[str, Any] = {"pp": 2, "num_blocks": 5, "max_num_batched_tokens": 32, "caching": False}
    result = serve_few([(0.0, 32, 5), (0.0, 32, 1)], faults=failure, **options)
    assert result.requests["num_preemptions"].tolist() == [0, 1]
    assert result.requests["completed_s"].tolist()[1] == 2.5
    times_s = np.array([0.1, 0.5, 1.1, 2.2, 2.6, 99.0])
    assert queue_length(result).at(times_s).tolist() == [0, 0, 0, 1, 0, 0]
    assert num_running(result, 0).at(times_s).tolist() == [2, 0, 2, 1, 1, 0]


def test_the_queue_is_correct_if_a_replica_fails_after_a_preemption() -> None:
    # The third decision schedules no tokens and preempts two of three requests; then the replica fails.
    options: dict[str, Any] = {"long_prefill_token_threshold": 2, "scheduler_reserve_full_isl": False, "pp": 3}
    failure = Faults([Fault(FAILURE, 0.5, 0.5, 0)])
    result = serve_few(
        [(0.0, 4, 2), (0.0, 6, 1), (0.0, 1, 1)], faults=failure, num_blocks=10, block_size=1, caching=False, **options
    )
    times_s = np.array([0.1, 0.6])
    assert queue_length(result).at(times_s).tolist() == [2, 0]
    assert num_running(result, 0).at(times_s).tolist() == [1, 0]
