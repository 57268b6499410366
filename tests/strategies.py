"""Hypothesis strategies: small random workloads with ties, one-token outputs and tight memory, and policies."""

from dataclasses import dataclass

from hypothesis import strategies as st

from simulator import Result
from simulator.iteration_time import Affine
from simulator.schedulers import VLLM, VLLMV1, DynamicChunks, FasterTransformer, Orca, Sarathi, Scheduler
from tests.helpers import serve


@dataclass(frozen=True)
class Workload:
    """A random workload and the deployment that serves it."""

    requests: list[tuple[float, int, int]]
    num_blocks: int
    max_model_len: int
    pp: int
    watermark: float
    max_num_seqs: int


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Draw a workload."""
    arrivals = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 2, allow_nan=False, width=32))
    request = st.tuples(arrivals, st.integers(1, 90), st.one_of(st.integers(1, 3), st.integers(1, 60)))
    requests = sorted(draw(st.lists(request, min_size=1, max_size=14)), key=lambda row: row[0])
    return Workload(
        requests=requests,
        num_blocks=draw(st.one_of(st.integers(3, 24), st.just(400))),
        max_model_len=draw(st.sampled_from([64, 128, 256])),
        pp=draw(st.integers(1, 4)),
        watermark=draw(st.sampled_from([0.0, 0.01, 0.1])),
        max_num_seqs=draw(st.sampled_from([1, 3, 8])),
    )


def serve_workload(workload: Workload, policy: Scheduler, iteration_time: Affine | None = None) -> Result:
    """Simulate a random workload."""
    return serve(
        workload.requests,
        policy,
        num_blocks=workload.num_blocks,
        max_model_len=workload.max_model_len,
        pp=workload.pp,
        watermark=workload.watermark,
        iteration_time=iteration_time,
    )


BUDGETS = [2, 5, 16, 48, 200]


def policies(max_num_seqs: int) -> st.SearchStrategy[Scheduler]:
    """Return a strategy of all policies with random options; token budgets may be below the number of decodes."""
    return st.one_of(
        policies_of_2024(max_num_seqs),
        st.builds(
            VLLMV1,
            st.sampled_from(BUDGETS),
            st.just(max_num_seqs),
            enable_chunked_prefill=st.booleans(),
            long_prefill_token_threshold=st.sampled_from([0, 10]),
            policy=st.sampled_from(["fcfs", "priority"]),
            scheduler_reserve_full_isl=st.booleans(),
            prefill_schedule_interval=st.sampled_from([1, 3]),
            async_scheduling=st.booleans(),
        ),
    )


def policies_of_2024(max_num_seqs: int) -> st.SearchStrategy[Scheduler]:
    """Return a strategy of the policies that `slow_reference` covers."""
    budgets = st.sampled_from(BUDGETS)
    dynamic = st.builds(
        DynamicChunks,
        stages=st.integers(0, 4),
        low=st.sampled_from([8, 40]),
        high=st.sampled_from([64, 100]),
        max_tokens=st.sampled_from([50, 120]),
    )
    return st.one_of(
        st.builds(Sarathi, budgets, st.just(max_num_seqs), dynamic),
        st.builds(VLLM, st.sampled_from([None, 60, 120]), st.just(max_num_seqs)),
        st.builds(Orca, st.just(max_num_seqs)),
        st.builds(FasterTransformer, st.just(max_num_seqs)),
    )
