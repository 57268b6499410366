"""The documented Python interface, and a user-defined policy."""

import gc
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from simulator import simulate
from simulator.config import load_config
from simulator.replica import Batch, Replica
from simulator.replica.queue import WaitingQueue
from simulator.schedulers import Limits, Sarathi
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

    @property
    def limits(self) -> Limits:
        return Limits(self.max_num_seqs)

    def schedule(self, replica: Replica) -> Batch | None:
        tokens, batch = replica.requests.known_tokens, replica.step
        order = [request for request in replica.by_arrival() if request in replica.decoding]
        for request in order[: self.max_decodes]:
            assert replica.allocate(request)
        for request in replica.paused_prefills():
            replica.allocate(request, min(32, tokens[request] - replica.prefilling[request]))
        if replica.waiting and len(replica.running) < self.max_num_seqs:
            request = min(replica.waiting, key=tokens.__getitem__)
            cached = min(self.cached_tokens, tokens[request] - 1)
            replica.admit(request, min(32, tokens[request] - cached), cached_tokens=cached)
        return batch if batch.decides_anything else None


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


MISTAKES: dict[str, tuple[Callable[[Replica], object], str]] = {
    "admits what does not wait": (
        lambda replica: replica.admit(1, 4) or replica.admit(1, 4),
        "request 1 does not wait",
    ),
    "admits too many tokens": (lambda replica: replica.admit(0, 9), "with 9 tokens; it has 8 to compute"),
    "admits without blocks": (
        lambda replica: replica.admit(0, 8, reserved_tokens=10**6),
        "request 0 is admitted and needs more than the ",
    ),
    "preempts what does not run": (lambda replica: replica.preempt(0), "request 0 is preempted and does not run"),
    "ignores what does not wait": (lambda replica: replica.ignore(7), "request 7 does not wait"),
    "gives tokens to what waits": (lambda replica: replica.allocate(0), "request 0 gets tokens, but has none"),
    "takes from the queue": (lambda replica: replica.waiting.popleft(), "the policy changes the queue itself"),
    "sorts the queue": (lambda replica: replica.waiting.rotate(), "the policy changes the queue itself"),
    "changes totals": (lambda replica: setattr(replica.step, "num_decodes", 5), "changes the decodes of the batch"),
    "changes decodes": (lambda replica: replica.decoding.add(0, 1, 1, True), "changes the "),
    "changes lengths": (
        lambda replica: operator.setitem(replica.requests.known_tokens, 0, 3),
        "the policy changes the length of a request",
    ),
    "reorders wrongly": (lambda replica: replica.reorder([0]), "the new order does not have exactly"),
}


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_faulty_policy_is_stopped_at_its_line(mistake: str, checked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    change, message = MISTAKES[mistake]

    class Faulty(Sarathi):
        def schedule(self, replica: Replica) -> Batch | None:
            if replica.waiting:
                change(replica)
            return super().schedule(replica)

    monkeypatch.setenv(CHECK_VARIABLE, "1" if checked else "")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        serve([(0.0, 8, 5)] * 2, Faulty())
    assert "test_python_api.py:" in str(error.value)


@pytest.mark.parametrize("attribute", ["decoding", "free_blocks"])
def test_a_policy_cannot_replace_the_state_of_a_replica(attribute: str) -> None:
    class Faulty(Sarathi):
        def schedule(self, replica: Replica) -> Batch | None:
            setattr(replica, attribute, None)
            return super().schedule(replica)

    with pytest.raises(AttributeError, match=attribute):
        serve([(0.0, 8, 5)] * 2, Faulty())


def test_a_policy_cannot_replace_the_queue() -> None:
    class Faulty(Sarathi):
        def schedule(self, replica: Replica) -> Batch | None:
            replica.waiting = WaitingQueue()
            return super().schedule(replica)

    with pytest.raises(
        ValueError, match=r"Faulty\.schedule: the policy changes the replica itself; only its verbs may"
    ):
        serve([(0.0, 8, 5)] * 2, Faulty())


def test_a_policy_that_never_returns_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Sarathi):
        def schedule(self, replica: Replica) -> Batch | None:
            while replica.waiting:
                replica.blocks_for(1)
            return None

    monkeypatch.setattr("simulator.engine.watchdog.LIMIT_S", 0.3)
    with pytest.raises(ValueError, match=r"test_python_api\.py:\d+: Endless\.schedule has not returned for 0\.3 s"):
        serve([(0.0, 8, 5)], Endless())


def test_the_running_requests_are_read_only() -> None:
    class Faulty(Sarathi):
        def schedule(self, replica: Replica) -> Batch | None:
            for request in replica.running:
                del replica.running[request]  # type: ignore[attr-defined]
            return super().schedule(replica)

    with pytest.raises(TypeError, match="mappingproxy"):
        serve([(0.0, 8, 5)] * 2, Faulty())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda _: Batch(), "returned <simulator.*; return replica.step or None"),
        (lambda _: None, "returned None after it changed the replica; return replica.step"),
        (lambda _: 5, "returned 5; return replica.step or None"),
        (lambda batch: batch.ignored.clear() or batch, "returned a batch that decides nothing; return None"),
    ],
)
def test_a_wrong_answer_of_a_policy_names_its_place(returned: Callable[[Batch], object], message: str) -> None:
    class Faulty(Sarathi):
        def schedule(self, replica: Replica) -> Batch | None:
            if not replica.waiting:
                return None
            replica.ignore(0)
            return cast("Batch", returned(replica.step))

    with pytest.raises(ValueError, match=rf"test_python_api\.py:\d+: Faulty\.schedule {message}"):
        serve([(0.0, 8, 5)] * 2, Faulty())


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
