"""Busy time and bubbles of pipeline stages."""

from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import Deployment, Result, simulate
from simulator.engine.pipeline_stages import Stages
from simulator.iteration_time import Affine, StageTimes
from simulator.log import StageUse
from simulator.model import EngineOverhead, KVMemory, Layout, Parallelism
from simulator.replica import Batch
from simulator.schedulers import VLLM, Sarathi
from tests.helpers import A100, POLICIES, serve, tiny_model, trace_of


@dataclass(frozen=True)
class PerToken:
    """Seconds per token of each stage, and a constant message time between stages."""

    stages: list[float] = field(default_factory=lambda: [1.0, 1.0])
    message_s: float = 0.0

    def for_layout(self, layout: Layout, engine: EngineOverhead) -> StageTimes:
        def stage_times(batch: Batch) -> list[float]:
            num_tokens = batch.num_prefill_tokens + batch.num_decodes
            times = [self.stages[0] * num_tokens]
            for per_token_s in self.stages[1:]:
                times += [self.message_s, per_token_s * num_tokens]
            return times

        return StageTimes(stage_times)


def run(requests: list[tuple[float, int, int]], times: PerToken, *, overlap_sends: bool = False) -> Result:
    parallel = Parallelism(pp=len(times.stages), overlap_sends=overlap_sends)
    deployment = Deployment(tiny_model(1024), A100, VLLM(), parallel, times, KVMemory(num_blocks=1000))
    return simulate(trace_of(requests), deployment)


def use_of(result: Result) -> list[dict[str, float]]:
    return [asdict(stage) for stage in result.replicas[0].stages]


def stages_of(num_stages: int, *, overlap_sends: bool = False) -> Stages:
    return Stages([StageUse() for _ in range(num_stages)], overlap_sends)


def test_one_batch_fills_the_pipeline() -> None:
    result = run([(0.0, 4, 1)], PerToken())
    assert result.end_s == 8.0
    first, second = use_of(result)
    assert first == asdict(StageUse(busy_s=4.0))
    assert second == asdict(StageUse(busy_s=4.0, waiting_for_upstream_s=4.0))
    assert result.summary["busy_fraction"] == [0.5, 0.5]
    assert result.summary["bubbles"]["no_work"] == [0.5, 0.0]
    assert result.summary["bubbles"]["waiting_for_upstream"] == [0.0, 0.5]


def test_a_long_batch_behind_a_short_one_leaves_an_uneven_bubble() -> None:
    # Stage 0 computes 1 token until 1 s and 5 tokens until 6 s. Stage 1 finishes the first batch at 2 s and waits until
    # 6 s: the second batch takes 4 s longer than the first.
    stages = stages_of(2)
    stages.pass_through([1.0, 0.0, 1.0], 0.0, 0.0)
    assert stages.pass_through([5.0, 0.0, 5.0], 0.5, 1.0) == (6.0, 11.0)
    assert stages.use[1] == StageUse(busy_s=6.0, waiting_for_upstream_s=1.0, uneven_micro_batches_s=4.0)
    assert stages.use[0] == StageUse(busy_s=6.0)


def test_a_full_pipeline_makes_the_first_stage_wait_for_the_last() -> None:
    # A long batch (10 s per stage) and a short one (1 s): stage 0 finishes the short batch at 11 s, and no third batch
    # may be formed before the long one leaves at 20 s.
    stages = stages_of(2)
    stages.pass_through([10.0, 0.0, 10.0], 0.0, 0.0)
    stages.pass_through([1.0, 0.0, 1.0], 10.0, 10.0)
    stages.make_room(20.0, [10.0, 0.0, 10.0])
    stages.pass_through([1.0, 0.0, 1.0], 20.0, 20.0)
    assert stages.use[0] == StageUse(busy_s=12.0, uneven_micro_batches_s=9.0)
    # With a slow last stage and equal batches, uneven batches are not the cause.
    stages = stages_of(2)
    stages.pass_through([1.0, 0.0, 10.0], 0.0, 0.0)
    stages.pass_through([1.0, 0.0, 10.0], 1.0, 1.0)
    stages.make_room(11.0, [1.0, 0.0, 10.0])
    stages.pass_through([1.0, 0.0, 10.0], 11.0, 11.0)
    assert stages.use[0] == StageUse(busy_s=3.0, waiting_for_downstream_s=9.0)


def test_one_long_batch_among_short_ones_makes_every_stage_wait_for_it() -> None:
    # Four stages hold a batch of 10 s per stage and three of 1 s; a batch of the next round may be formed when one
    # leaves. Stage 0 finishes the short batches at 13 s. The long one leaves at 40 s, and the next long one is formed.
    long, short = [10.0, 0.0] * 3 + [10.0], [1.0, 0.0] * 3 + [1.0]
    stages = stages_of(4)
    stages.pass_through(long, 0.0, 0.0)
    for start_s in (10.0, 11.0, 12.0):
        stages.pass_through(short, start_s, start_s)
    before = [asdict(use) for use in stages.use]
    stages.make_room(40.0, long)
    stages.pass_through(long, 40.0, 40.0)
    waits = [
        {name: seconds - earlier[name] for name, seconds in asdict(use).items() if name != "busy_s"}
        for use, earlier in zip(stages.use, before, strict=True)
    ]
    # Each stage is idle for 27 s: from 13, 23, 33 and 43 s to 40, 50, 60 and 70 s; 9 s of it per stage in between.
    assert [sum(wait.values()) for wait in waits] == [27.0] * 4
    assert [wait["uneven_micro_batches_s"] for wait in waits] == [27.0, 17.0 + 9.0, 7.0 + 18.0, 27.0]


def test_a_sending_stage_is_busy_unless_sends_overlap() -> None:
    for overlap, ends, busy_s in ((False, [(3.0, 4.0), (6.0, 7.0)], 6.0), (True, [(1.0, 4.0), (2.0, 6.0)], 2.0)):
        stages = stages_of(2, overlap_sends=overlap)
        assert [stages.pass_through([1.0, 2.0, 1.0], 0.0, start_s) for start_s in (0.0, ends[0][0])] == ends
        assert stages.use[0].busy_s == busy_s
        assert stages.use[1].busy_s == 2.0


def test_overlapped_sends_never_make_a_run_longer() -> None:
    requests = [(0.3 * number, 5 + number % 7, 6) for number in range(30)]
    times = PerToken([0.01, 0.01, 0.01], message_s=0.02)
    apart, together = (run(requests, times, overlap_sends=overlap) for overlap in (False, True))
    assert together.end_s < apart.end_s
    assert together.summary["num_finished"] == apart.summary["num_finished"] == 30


def test_chunked_prefills_shrink_the_bubbles_of_uneven_batches() -> None:
    requests = [(0.05 * number, 900 if number % 4 == 0 else 20, 30) for number in range(60)]
    uneven = {
        type(policy).__name__: sum(serve(requests, policy, pp=2).summary["bubbles"]["uneven_micro_batches"])
        for policy in (VLLM(), Sarathi(token_budget=64))
    }
    assert uneven["Sarathi"] < 0.5 * uneven["VLLM"]


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 60), st.integers(1, 8)), min_size=1, max_size=12),
    st.integers(1, 4),
    st.sampled_from(POLICIES),
    st.floats(0, 0.05),
    st.booleans(),
)
def test_every_second_of_every_stage_has_one_cause(
    rows: list[tuple[float, int, int]], pp: int, policy: Sarathi, message_s: float, overlap_sends: bool
) -> None:
    requests = sorted(rows)
    parallel = Parallelism(pp=pp, overlap_sends=overlap_sends)
    times = PerToken([0.01] * pp, message_s)
    deployment = Deployment(tiny_model(1024), A100, policy, parallel, times, KVMemory(num_blocks=1000))
    result = simulate(trace_of(requests), deployment)
    summary = result.summary
    if result.end_s == requests[0][0]:
        return
    shares = [summary["busy_fraction"], *summary["bubbles"].values()]
    for stage in range(pp):
        parts = [share[stage] for share in shares]
        assert sum(parts) == pytest.approx(1)
        assert min(parts) >= 0
    work_s = 0.01 * (sum(result.replicas[0].iterations[name].sum() for name in ("num_prefill_tokens", "num_decodes")))
    assert result.replicas[0].stages[-1].busy_s == pytest.approx(work_s)


def test_overlapping_sends_that_take_no_time_changes_no_batch() -> None:
    requests = [(0.1 * number, 50 + number, 9) for number in range(40)]
    logs = []
    for overlap_sends in (False, True):
        deployment = Deployment(
            tiny_model(1024), A100, Sarathi(64), Parallelism(pp=3, overlap_sends=overlap_sends), Affine()
        )
        logs.append(simulate(trace_of(requests), deployment, log_members=True))
    assert list(logs[0].batches()) == list(logs[1].batches())


def test_an_iteration_time_that_returns_no_stage_times_is_named() -> None:
    class Bare:
        def for_layout(self, layout: Layout, engine: EngineOverhead) -> StageTimes:
            return self  # type: ignore[return-value]

    deployment = Deployment(tiny_model(1024), A100, VLLM(), iteration_time=Bare(), kv_cache=KVMemory(num_blocks=1000))
    with pytest.raises(ValueError, match=r"^what Bare\.for_layout returns must be StageTimes, got "):
        simulate(trace_of([(0.0, 5, 5)]), deployment)
