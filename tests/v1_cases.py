"""Random cases for vLLM V1's scheduler, served by the simulator and by a slow reference of it."""

from dataclasses import dataclass
from random import Random

import numpy as np

from simulator import Deployment, Result, simulate
from simulator.cluster import Faults
from simulator.iteration_time import Affine
from simulator.model import KVMemory, Parallelism
from simulator.schedulers import VLLMV1
from tests import slow_reference_vllm_v1 as reference
from tests.helpers import A100, tiny_model
from traces import PrefixBlocks, Trace


@dataclass(frozen=True)
class Case:
    """What is served, and where."""

    requests: list[reference.Request]
    options: reference.Options
    machine: reference.Machine


def random_case(seed: int) -> Case:
    """A small case that collides: ties, tight memory, shared prefixes, chunks of odd sizes."""
    random = Random(seed)
    block_size = random.choice([1, 2, 4, 16])
    machine = reference.Machine(
        num_blocks=random.choice([3, 5, 9, 17, 41, 200]),
        block_size=block_size,
        max_model_len=random.choice([8, 32, 64, 256]),
        pp=random.choice([1, 1, 2, 3, 4]),
        prefix_caching=random.random() < 0.6,
        base_s=0.01,
        per_token_s=random.choice([0, 1e-4]),
        per_context_token_s=random.choice([0, 1e-6]),
    )
    options = reference.Options(
        max_num_batched_tokens=random.choice([1, 4, 16, 64, 256]),
        max_num_seqs=random.choice([1, 2, 5, 20]),
        enable_chunked_prefill=random.random() < 0.75,
        long_prefill_token_threshold=random.choice([0, 0, 3, 20]),
        long_prefill_token_threshold_adaptive=random.random() < 0.3,
        policy=random.choice(["fcfs", "priority"]),
        scheduler_reserve_full_isl=random.random() < 0.6,
        watermark=random.choice([0.0, 0.0, 0.05, 0.3]),
        max_num_active_seqs=random.choice([None, None, 1, 3]),
        max_num_scheduled_tokens=random.choice([None, None, 7, 100]),
        prefill_schedule_interval=random.choice([1, 1, 2, 5, 20]),
        async_scheduling=random.random() < 0.5,
    )
    return Case(_random_requests(random, machine), options, machine)


def _random_requests(random: Random, machine: reference.Machine) -> list[reference.Request]:
    requests: list[reference.Request] = []
    arrival_s, num_ids = 0.0, 0
    for number in range(random.randint(1, 25)):
        if random.random() < 0.7:
            arrival_s += round(random.expovariate(20), 3)
        prompt, output = random.randint(1, 80), random.randint(1, 40)
        num_blocks, begun = (prompt + output) // machine.block_size, [one.block_ids for one in requests]
        ids = (random.choice(begun) or [])[: random.randint(0, num_blocks)] if begun and random.random() < 0.6 else []
        num_new = num_blocks - len(ids)
        ids = [*ids, *range(num_ids, num_ids + num_new)]
        num_ids += num_new
        requests.append(reference.Request(str(number), arrival_s, prompt, output, random.randint(0, 2), ids))
    return requests


def served(
    case: Case, time_limit_s: float | None = None, faults: Faults | None = None, num_replicas: int = 1
) -> Result:
    """What the simulator makes of a case."""
    requests, machine = case.requests, case.machine
    lengths = np.array([len(one.block_ids or ()) for one in requests])
    ids = np.array([label for one in requests for label in one.block_ids or ()], dtype=np.int64)
    trace = Trace(
        np.array([one.prompt_tokens for one in requests]),
        np.array([one.output_tokens for one in requests]),
        np.array([one.arrival_s for one in requests]),
        request_id=np.array([one.request_id for one in requests]),
        priority=np.array([one.priority for one in requests]),
        prefix=PrefixBlocks.of_lengths(ids, lengths),
    )
    deployment = Deployment(
        tiny_model(machine.max_model_len),
        A100,
        VLLMV1(**vars(case.options)),
        Parallelism(pp=machine.pp),
        Affine(machine.base_s, machine.per_token_s, machine.per_context_token_s),
        KVMemory(machine.block_size, machine.num_blocks, prefix_caching=machine.prefix_caching),
        num_replicas,
    )
    return simulate(trace, deployment, faults=faults, time_limit_s=time_limit_s, log_members=True, log_stages=True)


def differences(case: Case, most_batches: int = 400) -> list[str]:
    """What differs between the simulator and the reference; none if it is empty."""
    slow = reference.serve(case.requests, case.options, case.machine, most_batches)
    cut_off = len(slow.batches) == most_batches
    fast = served(case, slow.batches[-1].start_s if cut_off else None)
    num_batches = len(slow.batches)
    replica = fast.replicas[0]
    assert replica.members is not None
    found = []
    members = [[(case.requests[one].request_id, *rest) for one, *rest in batch] for batch in replica.members]
    compared = {
        "members": (members, [one.members for one in slow.batches]),
        **{
            name: (replica.iterations[name].tolist(), [getattr(one, name) for one in slow.iterations])
            for name in ("schedule_s", "context_tokens", "free_blocks")
        },
        **{
            name: (replica.iterations[name].tolist(), [getattr(one, name) for one in slow.batches])
            for name in ("start_s", "end_s")
        },
    }
    for name, (ours, expected) in compared.items():
        if ours[:num_batches] != expected:
            pairs = zip(ours, expected, strict=False)
            place = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(ours), num_batches))
            found.append(f"{name} at {place}: {ours[place : place + 1]} instead of {expected[place : place + 1]}")
    if not cut_off:
        found += _differing_requests(fast, slow)
    return found


def _differing_requests(fast: Result, slow: reference.Outcome) -> list[str]:
    found = []
    for name in ("first_scheduled_s", "first_token_s", "completed_s"):
        expected = [np.nan if (value := getattr(one, name)) is None else value for one in slow.requests]
        if not np.array_equal(fast.requests[name], expected, equal_nan=True):
            found.append(name)
    counts = {
        "num_preemptions": [one.num_preemptions for one in slow.requests],
        "ignored": [one.ignored for one in slow.requests],
    }
    if "cached_tokens" in fast.requests:
        counts["cached_tokens_readmissions"] = [one.cached_tokens_readmissions for one in slow.requests]
        first = {row.request_id: row.cached_tokens for row in reversed(slow.admissions)}
        counts["cached_tokens"] = [first.get(one.request_id, 0) for one in slow.requests]
        if fast.summary["prefix_cache"]["num_evicted_blocks"] != slow.num_evictions:
            found.append("num_evicted_blocks")
    return found + [name for name, expected in counts.items() if fast.requests[name].tolist() != expected]
