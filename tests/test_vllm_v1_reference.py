"""The policy of vLLM V1 against a slow model of its scheduler, cache and engine loop: exactly the same happens."""

from random import Random

import pytest

from simulator.simulation import CHECK_VARIABLE
from tests import slow_reference_vllm_v1 as reference
from tests.v1_cases import Case, differences, random_case, served

SMALL, LONG = 320, 36


@pytest.mark.parametrize("first", range(0, SMALL, 40))
def test_small_cases_that_collide_are_served_as_by_the_reference(first: int) -> None:
    differing = {seed: found for seed in range(first, first + 40) if (found := differences(random_case(seed)))}
    assert differing == {}


@pytest.mark.parametrize("first", range(0, LONG, 9))
def test_conversations_are_served_as_by_the_reference(first: int) -> None:
    differing = {seed: found for seed in range(first, first + 9) if (found := differences(long_case(seed), 1500))}
    assert differing == {}


def test_runs_that_do_not_check_themselves_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHECK_VARIABLE)
    cases = [*map(random_case, range(1000, 1060)), *map(long_case, range(1000, 1004))]
    assert [found for case in cases if (found := differences(case))] == []


def test_long_cases_reach_what_short_ones_do_not() -> None:
    """Many evictions and preemptions, hits at readmissions, and deep pipelines with them."""
    deep = [case for case in map(long_case, range(LONG)) if case.machine.pp > 2 and case.machine.prefix_caching]
    figures = [served(case, time_limit_s=20.0).summary for case in deep[:6]]
    for name in ("num_evicted_blocks", "cached_tokens", "cached_tokens_readmissions"):
        assert sum(one["prefix_cache"][name] for one in figures) > 500
    assert sum(one["num_preemptions"] for one in figures) > 100


def long_case(seed: int) -> Case:
    """Some 80 requests, most of them turns that begin with what an earlier one of them left, or with a part of it."""
    random = Random(seed)
    block_size = random.choice([1, 4, 16])
    machine = reference.Machine(
        num_blocks=random.choice([20, 60, 200] if block_size > 1 else [200, 600]),
        block_size=block_size,
        max_model_len=random.choice([200, 400, 1000]),
        pp=random.choice([1, 2, 3, 4]),
        prefix_caching=random.random() < 0.9,
        base_s=0.01,
        per_token_s=random.choice([0, 1e-4]),
        per_context_token_s=random.choice([0, 1e-6]),
    )
    options = reference.Options(
        max_num_batched_tokens=random.choice([16, 64, 256]),
        max_num_seqs=random.choice([5, 20, 40]),
        enable_chunked_prefill=random.random() < 0.8,
        long_prefill_token_threshold=random.choice([0, 0, 20]),
        policy=random.choice(["fcfs", "fcfs", "priority"]),
        scheduler_reserve_full_isl=random.random() < 0.6,
        watermark=random.choice([0.0, 0.05]),
        prefill_schedule_interval=random.choice([1, 1, 1, 3]),
        async_scheduling=random.random() < 0.5,
    )
    return Case(_turns(random, machine), options, machine)


def _turns(random: Random, machine: reference.Machine) -> list[reference.Request]:
    requests: list[reference.Request] = []
    arrival_s, num_ids, rate = 0.0, 0, random.choice([5, 20, 100])
    for number in range(random.randint(60, 100)):
        arrival_s += round(random.expovariate(rate), 3) * (random.random() < 0.8)
        output = random.randint(1, 40)
        before = random.choice(requests) if requests and random.random() < 0.7 else None
        known = 0 if before is None else before.prompt_tokens + before.output_tokens
        if known + 40 > machine.max_model_len:
            before, known = None, 0
        prompt = known + random.randint(1, 40)
        ids = [] if before is None else (before.block_ids or [])
        ids = ids[: random.randint(0, len(ids))] if random.random() < 0.3 else ids
        num_new = (prompt + output) // machine.block_size - len(ids)
        ids = [*ids, *range(num_ids, num_ids + num_new)]
        num_ids += num_new
        requests.append(reference.Request(str(number), arrival_s, prompt, output, random.randint(0, 2), ids))
    return requests
