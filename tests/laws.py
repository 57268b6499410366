"""Laws of the simulator, checked on a fixed set of small runs; `mutations.py` runs them on faulty simulators.

There are two kinds: the invariants that every run with check=true checks itself, and further laws. The further ones say
that policies decide as the slow reference does, how latencies add up, why requests are stuck, and when a queue counts
as overloaded.
"""

import random

import numpy as np
from numpy.typing import NDArray

from simulator import Deployment, MetricOptions, Result, simulate
from simulator.cluster import Faults
from simulator.iteration_time import Affine
from simulator.model import KVMemory
from simulator.replica import Batch
from simulator.results import percentile_of
from simulator.results.overload import backlog
from simulator.results.tokens import decodes_emitted
from simulator.schedulers import (
    VLLM,
    VLLMV1,
    ChunkedPrefills,
    DynamicChunks,
    FasterTransformer,
    Orca,
    Sarathi,
    Scheduler,
)
from tests.helpers import A100, serve, tiny_model
from tests.strategies import Workload, serve_workload
from tests.test_reference import check_against_reference
from tests.v1_cases import differences, random_case
from traces import Trace

# Random cases of vLLM V1. Those after the range reach rare states: prefill intervals, admissions that just fit.
SEEDS = (
    *range(70),
    89,
    122,
    130,
    236,
    123,
    252,
    253,
    278,
    318,
    321,
    401,
    403,
    453,
    454,
    460,
    528,
    563,
    638,
    808,
    817,
    919,
)


def workloads() -> list[Workload]:
    """Return random workloads with ties, one-token outputs, little memory and prompts that are too long."""
    draw = random.Random(7)
    result = []
    for index in range(40):
        num_requests = draw.randint(6, 24)
        arrivals = sorted(draw.choice([0.0, 0.5, draw.random() * 2]) for _ in range(num_requests))
        requests = [
            (arrival_s, draw.randint(1, 90), draw.choice([1, 2, draw.randint(1, 60)])) for arrival_s in arrivals
        ]
        result.append(
            Workload(
                requests=requests,
                num_blocks=[10, 16, 24, 400][index % 4 if index % 3 else 0],
                max_model_len=[80, 256][index % 2],
                pp=[1, 2, 1, 3][(index + index // 4) % 4],
                watermark=[0.0, 0.1][index % 2],
                max_num_seqs=[3, 8, 1, 20, 8][index % 5],
            )
        )
    return result


def policies(max_num_seqs: int) -> list[Scheduler]:
    """Return every policy with several of its options."""
    return [
        Sarathi(2 + max_num_seqs // 2, max_num_seqs),
        Sarathi(5 + 2 * max_num_seqs, max_num_seqs),
        Sarathi(48, max_num_seqs, DynamicChunks(3, 8, 64, 50)),
        Sarathi(48, max_num_seqs, DynamicChunks(2, 40, 100, 50)),
        VLLM(max_num_seqs=max_num_seqs),
        VLLM(max_num_batched_tokens=120, max_num_seqs=max_num_seqs),
        Orca(max_num_seqs),
        FasterTransformer(max_num_seqs),
        ChunkedPrefills(chunk_size=24, max_num_seqs=max_num_seqs),
        VLLMV1(max_num_batched_tokens=40, max_num_seqs=max_num_seqs),
        VLLMV1(max_num_batched_tokens=40, max_num_seqs=max_num_seqs, async_scheduling=True),
    ]


def check_alone() -> None:
    """Run the simulations with check=true alone, with faults of replicas too."""
    for workload in workloads():
        for policy in policies(workload.max_num_seqs):
            serve_workload(workload, policy)
            options = {"num_blocks": workload.num_blocks, "max_model_len": 256, "pp": workload.pp}
            serve(workload.requests, policy, time_limit_s=0.3, metrics=MetricOptions(warmup_s=0.1), **options)
    from tests.test_faults import BUSY, failure, serve_with_faults
    from tests.test_python_api import ShortestPromptFirst

    for pp in (1, 2, 3):
        prompts = [70, 20, 50, 90, 30, 40, 60, 80]
        result = serve([(0.0, prompt, 9) for prompt in prompts], ShortestPromptFirst(), pp=pp)
        assert result.summary["num_finished"] == len(prompts)
        assert result.replicas[0].iterations["num_decodes"].max() <= 3
    fail_times = ((0.2, 0), (0.31, 1), (0.42, 0), (0.53, 1), (0.6, 0))
    failures = [failure(at_s, 0.05, replica) for at_s, replica in fail_times]
    for index, policy in enumerate(policies(8)):
        for on_failure in ("resume", "restart"):
            pp = 1 + (index + (on_failure == "restart")) % 3
            serve_with_faults(
                Faults([*failures, failure(1.1)], on_failure=on_failure), BUSY[:40], policy=policy, pp=pp, num_blocks=30
            )
    check_follow_ups()


def check_follow_ups() -> None:
    """Check that a follow-up arrives exactly one think time after the answer to the turn before it."""
    trace = Trace(
        np.array([30, 50]),
        np.array([4, 4]),
        np.array([0.0, np.nan]),
        session=np.array([0, 0]),
        think_s=np.array([np.nan, 1.0]),
    )
    for policy in policies(4):
        deployment = Deployment(
            tiny_model(256), A100, policy, iteration_time=Affine(), kv_cache=KVMemory(num_blocks=60)
        )
        table = simulate(trace, deployment).requests
        assert table["arrival_s"][1] == table["completed_s"][0] + 1.0


def check_vllm_v1() -> None:
    """Check that vLLM V1 decides as its slow reference does."""
    for seed in SEEDS:
        assert differences(random_case(seed)) == [], seed


def check_all() -> None:
    """Check all laws."""
    check_alone()
    for workload in workloads():
        for policy in policies(workload.max_num_seqs):
            if not isinstance(policy, ChunkedPrefills | VLLMV1):
                check_against_reference(workload, policy)
            result = serve_workload(workload, policy)
            check_latencies(result)
            if not isinstance(policy, VLLMV1):
                reserves = isinstance(policy, Orca | FasterTransformer)
                check_stuck_reason(result, 0 if reserves else int(workload.watermark * workload.num_blocks))
    check_vllm_v1()
    check_turns()
    check_overload()
    check_percentiles()
    assert Batch.of([(7, 3)], [(2, 10), (1, 5)]).decode_context_tokens == 25
    assert [VLLM(limit).limits.profiled_tokens(100) for limit in (None, 60, 200)] == [100, 60, 100]


def check_turns() -> None:
    """Check that chunks and decodes alternate, and that chunks fill the budget."""
    policy = ChunkedPrefills(chunk_size=30, max_num_seqs=5)
    requests = [(0.0, 10, 4)] * 9 + [(0.0, 64, 3)] * 2
    members = serve(requests, policy).replicas[0].members or []
    assert [len({is_prompt for _, _, is_prompt in batch}) for batch in members] == [1] * len(members)
    assert [len(batch) for batch in members[:4]] == [3, 3, 2, 5]
    chunks = [sum(tokens for _, tokens, _ in batch) for batch in members if batch[0][2]]
    assert sum(chunks) == 9 * 10 + 2 * 64
    assert max(chunks) == 30
    long = serve([(0.0, 64, 2)] * 2, policy).replicas[0].members or []
    assert [[tokens for _, tokens, _ in batch] for batch in long] == [[30], [30], [4], [1]] * 2


def check_latencies(result: Result) -> None:
    """Check that figures per request and per iteration add up to those of the whole run."""
    gaps, shares = result.latencies["tbt_s"].cdf()
    if len(gaps):
        assert np.isclose(shares[-1], 1)
    finished = ~np.isnan(result.requests["completed_s"])
    num_tokens = emitted_by_request(result)
    assert (num_tokens[finished] == result.requests["output_tokens"][finished]).all()
    replica = result.replicas[0]
    decode_spans = replica.tokens.decode_spans
    emitted = decodes_emitted(replica.tokens)
    assert emitted.sum() == (decode_spans[:, 3] - decode_spans[:, 2]).sum()
    assert (emitted <= replica.iterations["num_decodes"]).all()


def emitted_by_request(result: Result) -> NDArray[np.int64]:
    """Return the output tokens of each request: int64[num_requests]."""
    emitted = np.zeros(len(result.status), dtype=np.int64)
    for replica in result.replicas:
        request, _, joined, left = replica.tokens.decode_spans.T
        np.add.at(emitted, replica.tokens.prefill_ends[:, 0], 1)
        np.add.at(emitted, request, left - joined)
    return emitted


def check_stuck_reason(result: Result, watermark: int) -> None:
    """Check that stuck requests have a reason, and that admitted ones had the KV blocks they need."""
    replica = result.replicas[0]
    assert bool(result.summary["num_stuck"]) == bool(replica.stuck_reason)
    assert (replica.request_events.blocks_needed <= replica.num_blocks).all()
    prompts = result.requests["prompt_tokens"][replica.request_events.admissions[:, 0]]
    assert (replica.request_events.blocks_needed >= -(-prompts // 16) + watermark).all()


def check_percentiles() -> None:
    """Check which names are percentiles."""
    for name in ("99", "p", "p0", "p101", "px", "q50", "p1.5.0", "50"):
        try:
            percentile_of(name)
        except ValueError:
            continue
        raise AssertionError(name)
    assert [float(percentile_of(name)) for name in ("p99.9", "p0.5", "p100")] == [99.9, 0.5, 100.0]


def check_overload() -> None:
    """Check that a queue that builds up counts as overload, and others do not."""
    arrival_s, one = np.arange(100.0), np.zeros(100, dtype=np.int64)
    assert backlog(arrival_s, 2 * arrival_s, one) == 50
    assert backlog(arrival_s, arrival_s + 3, one) == 0
    assert backlog(arrival_s, np.where(arrival_s < 40, arrival_s, np.nan), one) == 60
    # A quarter of the arrivals since the queue was empty; half of its longest; ten requests, and their square root.
    assert backlog(arrival_s, np.where(arrival_s < 76, arrival_s, np.inf), one) == 0
    assert backlog(arrival_s, arrival_s + np.where(arrival_s < 50, 60, 10), one) == 0
    assert backlog(arrival_s, arrival_s + 8.5, one) == 0
    assert backlog(arrival_s, arrival_s + 10.5, one) == 11
    many_s = np.arange(400.0)
    assert backlog(many_s, many_s + 19.5, np.zeros(400, dtype=np.int64)) == 20
    assert backlog(many_s, many_s + 18.5, np.zeros(400, dtype=np.int64)) == 0
    assert backlog(np.zeros(100), np.arange(100.0), one) == 0
    assert backlog(np.zeros(0), np.zeros(0), one[:0]) == 0
