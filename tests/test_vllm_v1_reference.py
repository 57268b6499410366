"""Runs of vLLM V1 equal those of a slow reference of its scheduler, prefix cache and engine loop."""

from random import Random

import pytest

from simulator.simulation import CHECK_VARIABLE
from tests import slow_reference_vllm_v1 as reference
from tests.v1_cases import Case, differences, random_case, served

SMALL, LONG = 320, 36


@pytest.mark.parametrize("first", range(0, SMALL, 40))
def test_small_cases_with_contention_match_the_reference(first: int) -> None:
    differing = {seed: texts for seed in range(first, first + 40) if (texts := differences(random_case(seed)))}
    assert differing == {}


@pytest.mark.parametrize("first", range(0, LONG, 9))
def test_conversations_match_the_reference(first: int) -> None:
    differing = {seed: texts for seed in range(first, first + 9) if (texts := differences(long_case(seed), 1500))}
    assert differing == {}


def test_runs_without_invariant_checks_match_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHECK_VARIABLE)
    cases = [*map(random_case, range(1000, 1060)), *map(long_case, range(1000, 1004))]
    assert [texts for case in cases if (texts := differences(case))] == []


def test_long_cases_have_many_evictions_hits_and_preemptions() -> None:
    """Deep pipelines with a prefix cache also have many of each."""
    deep = [case for case in map(long_case, range(LONG)) if case.machine.pp > 2 and case.machine.prefix_caching]
    summaries = [served(case, time_limit_s=20.0).summary for case in deep[:6]]
    for name in ("num_evicted_blocks", "cached_tokens", "cached_tokens_readmissions"):
        assert sum(summary["prefix_cache"][name] for summary in summaries) > 500
    assert sum(summary["num_preemptions"] for summary in summaries) > 100


def long_case(seed: int) -> Case:
    """Return a case of 60 to 100 requests, most of which continue an earlier request or share part of its prefix."""
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
        previous = random.choice(requests) if requests and random.random() < 0.7 else None
        known = 0 if previous is None else previous.prompt_tokens + previous.output_tokens
        if known + 40 > machine.max_model_len:
            previous, known = None, 0
        prompt = known + random.randint(1, 40)
        ids = [] if previous is None else (previous.block_ids or [])
        ids = ids[: random.randint(0, len(ids))] if random.random() < 0.3 else ids
        num_new = (prompt + output) // machine.block_size - len(ids)
        ids = [*ids, *range(num_ids, num_ids + num_new)]
        num_ids += num_new
        requests.append(reference.Request(str(number), arrival_s, prompt, output, random.randint(0, 2), ids))
    return requests
