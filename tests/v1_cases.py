"""Random cases for vLLM V1, served by the simulator and by a slow reference."""

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
    """Requests, options and machine of one run."""

    requests: list[reference.Request]
    options: reference.Options
    machine: reference.Machine


def random_case(seed: int) -> Case:
    """Return a small case with contention: ties, tight memory, shared prefixes, odd chunk sizes."""
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
        num_blocks, known = (prompt + output) // machine.block_size, [request.block_ids for request in requests]
        ids = (random.choice(known) or [])[: random.randint(0, num_blocks)] if known and random.random() < 0.6 else []
        num_new = num_blocks - len(ids)
        ids = [*ids, *range(num_ids, num_ids + num_new)]
        num_ids += num_new
        requests.append(reference.Request(str(number), arrival_s, prompt, output, random.randint(0, 2), ids))
    return requests


def served(
    case: Case, time_limit_s: float | None = None, faults: Faults | None = None, num_replicas: int = 1
) -> Result:
    """Serve a case with the simulator."""
    requests, machine = case.requests, case.machine
    lengths = np.array([len(request.block_ids or ()) for request in requests])
    ids = np.array([block for request in requests for block in request.block_ids or ()], dtype=np.int64)
    trace = Trace(
        np.array([request.prompt_tokens for request in requests]),
        np.array([request.output_tokens for request in requests]),
        np.array([request.arrival_s for request in requests]),
        request_id=np.array([request.request_id for request in requests]),
        priority=np.array([request.priority for request in requests]),
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
    """Return the differences between the simulator and the reference; empty if they agree."""
    slow = reference.serve(case.requests, case.options, case.machine, most_batches)
    cut_off = len(slow.batches) == most_batches
    fast = served(case, slow.batches[-1].start_s if cut_off else None)
    num_batches = len(slow.batches)
    replica = fast.replicas[0]
    assert replica.members is not None
    texts = []
    members = [[(case.requests[index].request_id, *rest) for index, *rest in batch] for batch in replica.members]
    compared = {
        "members": (members, [batch.members for batch in slow.batches]),
        **{
            name: (replica.iterations[name].tolist(), [getattr(row, name) for row in slow.iterations])
            for name in ("schedule_s", "context_tokens", "free_blocks")
        },
        **{
            name: (replica.iterations[name].tolist(), [getattr(batch, name) for batch in slow.batches])
            for name in ("start_s", "end_s")
        },
    }
    for name, (actual, expected) in compared.items():
        if actual[:num_batches] != expected:
            pairs = enumerate(zip(actual, expected, strict=False))
            first = next((index for index, (value, wanted) in pairs if value != wanted), min(len(actual), num_batches))
            texts.append(f"{name} at {first}: {actual[first : first + 1]} instead of {expected[first : first + 1]}")
    if not cut_off:
        texts += _differing_requests(fast, slow)
    return texts


def _differing_requests(fast: Result, slow: reference.Outcome) -> list[str]:
    names = []
    for name in ("first_scheduled_s", "first_token_s", "completed_s"):
        expected = [np.nan if (value := getattr(row, name)) is None else value for row in slow.requests]
        if not np.array_equal(fast.requests[name], expected, equal_nan=True):
            names.append(name)
    counts = {
        "num_preemptions": [row.num_preemptions for row in slow.requests],
        "ignored": [row.ignored for row in slow.requests],
    }
    if "cached_tokens" in fast.requests:
        counts["cached_tokens_readmissions"] = [row.cached_tokens_readmissions for row in slow.requests]
        first = {row.request_id: row.cached_tokens for row in reversed(slow.admissions)}
        counts["cached_tokens"] = [first.get(row.request_id, 0) for row in slow.requests]
        if fast.summary["prefix_cache"]["num_evicted_blocks"] != slow.num_evictions:
            names.append("num_evicted_blocks")
    return names + [name for name, expected in counts.items() if fast.requests[name].tolist() != expected]
