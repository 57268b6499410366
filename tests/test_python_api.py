"""The documented Python interface, and a user-defined policy."""

import gc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from simulator import simulate
from simulator.config import load_config
from simulator.replica import Batch, Replica
from simulator.schedulers import Sarathi, every_decode
from simulator.simulation import CHECK_VARIABLE
from tests.helpers import serve, trace_of
from traces import Trace


def test_a_configuration_can_be_loaded_and_run() -> None:
    result = simulate(**load_config("scheduler=vllm", "trace=fixed", "trace.num_requests=30", "arrival.qps=3"))
    assert result.summary["num_finished"] == 30
    frame = result.to_dataframe()
    assert len(frame) == 30
    assert list(frame.columns)[:4] == ["request_id", "arrival_s", "prompt_tokens", "output_tokens"]
    assert frame["completed_s"].max() == result.requests["completed_s"].max()


def test_arrays_by_request_and_by_iteration_agree() -> None:
    result = serve([(0.1 * index, 50, 7) for index in range(40)], Sarathi(token_budget=64))
    iterations = result.replicas[0].iterations
    assert iterations["num_prefill_tokens"].sum() == 40 * 50
    assert iterations["num_decodes"].sum() == 40 * 6
    assert iterations["end_s"][-1] == result.requests["completed_s"].max()
    assert np.all(iterations["start_s"][1:] >= iterations["end_s"][:-1])


def test_batches_need_log_members() -> None:
    result = simulate(**load_config("trace=fixed", "trace.num_requests=3"))
    with pytest.raises(ValueError, match="log_members=True"):
        next(result.batches())


def test_a_trace_needs_arrival_times() -> None:
    arguments = load_config("trace=fixed")
    arguments["trace"] = Trace(np.array([5]), np.array([5]))
    with pytest.raises(ValueError, match="no arrival times"):
        simulate(**arguments)


def test_requests_are_sent_to_replicas_in_turn() -> None:
    result = serve([(0.1 * index, 50, 7) for index in range(10)], Sarathi(), num_replicas=3)
    assert result.requests["replica"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert len(result.replicas) == 3
    assert result.summary["num_finished"] == 10


def test_replicas_are_independent() -> None:
    requests = [(0.05 * index, 50 + index, 7) for index in range(40)]
    both = serve(requests, Sarathi(), num_replicas=2).requests
    for replica in (0, 1):
        alone = serve(requests[replica::2], Sarathi()).requests
        assert np.array_equal(both["completed_s"][replica::2], alone["completed_s"])


def test_a_run_does_not_change_its_trace() -> None:
    trace = trace_of([(0.0, 40, 60), (0.01, 40, 60)])
    arguments = load_config("kv_cache.num_blocks=10", "kv_cache.watermark=0.2", "scheduler=vllm")
    arguments["trace"] = trace
    first, second = simulate(**arguments), simulate(**arguments)
    assert first.summary["num_preemptions"] > 0
    assert first.summary == second.summary
    assert trace.prompt_tokens.tolist() == [40, 40]


@dataclass(frozen=True)
class ShortestPromptFirst:
    """Policy that batches some decodes with a chunk of the shortest waiting prompt.

    It admits out of order, allocates KV blocks chunk by chunk, starts prompts with cached tokens and skips decodes:
    policies may do this, and the four shipped ones do not.
    """

    max_num_seqs: int = 4
    max_decodes: int = 3
    cached_tokens: int = 16
    appends_blocks: ClassVar[bool] = True

    def schedule(self, replica: Replica) -> Batch | None:
        tokens = replica.requests.known_tokens
        order = [request for request in replica.by_arrival() if request in replica.decoding]
        batch = every_decode(replica.decoding)
        batch.skipped_decodes = order[self.max_decodes :]
        batch.repeats = False
        batch.num_decodes -= len(batch.skipped_decodes)
        batch.decode_context_tokens -= sum(map(replica.decoding.context_of, batch.skipped_decodes))
        for request in replica.paused_prefills():
            computed = replica.prefilling[request]
            chunk = min(32, tokens[request] - computed)
            blocks = replica.blocks_for(computed + chunk) - replica.num_blocks_of(request)
            batch.add_chunk(request, chunk, computed, blocks)
        if replica.waiting and len(replica.running) < self.max_num_seqs:
            request = min(replica.waiting, key=tokens.__getitem__)
            cached = min(self.cached_tokens, tokens[request] - 1)
            chunk = min(32, tokens[request] - cached)
            batch.add_chunk(request, chunk, cached, replica.blocks_for(cached + chunk))
        return batch if batch.decides_anything else None

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        return replica.blocks_for(num_tokens)


@pytest.mark.parametrize("pp", [1, 2, 3])
def test_a_policy_may_admit_out_of_order_in_chunks_with_cached_tokens_and_skip_decodes(pp: int) -> None:
    prompts = [70, 20, 50, 90, 30, 40, 60, 80]
    result = serve([(0.0, prompt, 9) for prompt in prompts], ShortestPromptFirst(), pp=pp)
    assert result.summary["num_finished"] == 8
    admitted = np.argsort(result.requests["first_scheduled_s"], kind="stable")
    assert [prompts[request] for request in admitted][:3] == [20, 30, 40]
    iterations = result.replicas[0].iterations
    assert iterations["num_decodes"].max() <= 3
    assert iterations["num_prefill_tokens"].sum() == sum(prompts) - 8 * 16
    assert iterations["free_blocks"].max() < 1000
    if pp == 1:
        assert result.summary["tbt_s"]["max"] > 0.1  # a decode was skipped for several iterations


class TakesTooMuch(Sarathi):
    """Faulty policy that allocates more KV blocks than are free."""

    def schedule(self, replica: Replica) -> Batch | None:
        batch = super().schedule(replica)
        if batch is not None:
            for chunk in batch.chunks:
                chunk.num_blocks = 10**6
        return batch


class ForgetsADecode(Sarathi):
    """Faulty policy whose totals leave out a decode."""

    def schedule(self, replica: Replica) -> Batch | None:
        batch = super().schedule(replica)
        if batch is not None and batch.num_decodes > 1:
            batch.num_decodes -= 1
        return batch


@pytest.mark.parametrize(
    ("policy", "message"),
    [(TakesTooMuch(), "more KV blocks than are free"), (ForgetsADecode(), "the batch decodes 1 of 2 requests")],
)
def test_a_faulty_policy_is_stopped(policy: Sarathi, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"invariant violated|more KV blocks than are free"):
        serve([(0.0, 8, 5)] * 2, policy)
    monkeypatch.delenv(CHECK_VARIABLE)
    with pytest.raises(ValueError, match=message):
        serve([(0.0, 8, 5)] * 2, policy)


def test_a_run_leaves_no_reference_cycles_and_reenables_the_garbage_collector() -> None:
    serve([(0.0, 8, 2)], Sarathi())
    gc.collect()
    small = serve([(0.01 * index, 50, 7) for index in range(50)], Sarathi())
    num_small = gc.collect()
    large = serve([(0.01 * index, 50, 7) for index in range(500)], Sarathi())
    num_large = gc.collect()
    assert gc.isenabled()
    assert small.summary["num_finished"] + large.summary["num_finished"] == 550
    assert num_large < num_small + 50
