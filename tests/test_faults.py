"""Fault injection: replicas that fail, are slow or have a slow network; every request is accounted for."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import Deployment, Result, load_result, simulate
from simulator.__main__ import main
from simulator.cluster import Fault, FaultRate, Faults
from simulator.config import load_config
from simulator.iteration_time import Affine
from simulator.log import FAILURE, NETWORK, SLOWDOWN
from simulator.model import KVMemory, Parallelism
from simulator.results import FINISHED, LOST, STUCK, num_running, output_tokens, queue_length, stalls
from simulator.schedulers import Orca, Scheduler
from tests.helpers import A100, POLICIES, run_main, tiny_model, trace_of, write_run

BUSY = [(0.02 * index, 30 + 11 * (index % 7), 1 + 5 * (index % 4)) for index in range(100)]


def serve_with_faults(
    faults: Faults | None,
    requests: Sequence[tuple[float, int, int]] = BUSY,
    *,
    policy: Scheduler = POLICIES[0],
    num_replicas: int = 2,
    pp: int = 1,
    num_blocks: int = 100,
    time_limit_s: float | None = None,
) -> Result:
    deployment = Deployment(
        tiny_model(1024), A100, policy, Parallelism(pp=pp), Affine(), KVMemory(num_blocks=num_blocks), num_replicas
    )
    return simulate(
        trace_of(requests),
        deployment,
        faults=faults,
        time_limit_s=time_limit_s,
        log_members=True,
        log_stages=True,
        check=True,
    )


def one_at_a_time(faults: Faults, requests: Sequence[tuple[float, int, int]], num_replicas: int = 1) -> Result:
    """Simulate replicas that serve one request at a time, at one second per token."""
    deployment = Deployment(
        tiny_model(1024), A100, Orca(max_num_seqs=1), iteration_time=Affine(1.0, 0.0), num_replicas=num_replicas
    )
    return simulate(trace_of(requests), deployment, faults=faults, check=True)


def failure(at_s: float, for_s: float | None = None, replica: int | None = 0) -> Fault:
    return Fault(FAILURE, at_s, for_s, replica)


def test_a_resumed_request_continues_on_another_replica() -> None:
    result = one_at_a_time(Faults([failure(2.5)]), [(0.0, 10, 5)], num_replicas=2)
    # Tokens at 1 and 2 s. The third iteration is lost at 2.5 s; the new prefill emits the third token at 3.5 s.
    assert result.requests["first_token_s"].tolist() == [1.0]
    assert result.requests["completed_s"].tolist() == [5.5]
    assert result.requests["num_retries"].tolist() == [1]
    assert result.requests["replica"].tolist() == [1]
    assert result.latencies["tbt_s"].summary() == {
        "mean": 1.125,
        "p50": 1.0,
        "p90": 1.5,
        "p95": 1.5,
        "p99": 1.5,
        "max": 1.5,
    }
    assert result.summary["faults"]["kv_tokens_lost"] == 11


def test_a_restarted_request_keeps_only_the_tokens_of_its_last_attempt() -> None:
    result = one_at_a_time(Faults([failure(2.5)], on_failure="restart"), [(0.0, 10, 5)], num_replicas=2)
    assert result.requests["first_token_s"].tolist() == [3.5]
    assert result.requests["first_scheduled_s"].tolist() == [0.0]
    assert result.requests["completed_s"].tolist() == [7.5]
    assert result.latencies["tbt_s"].statistic("max") == 1.0


def test_requests_are_lost_if_they_are_not_sent_again() -> None:
    result = one_at_a_time(Faults([failure(2.5, 10.0)], on_failure="lose"), [(0.0, 10, 5), (3.0, 10, 5), (20.0, 10, 1)])
    assert result.status.tolist() == [LOST, LOST, FINISHED]
    assert result.summary["num_lost"] == 2
    assert [text for text in result.summary["warnings"] if "lost" in text] == [
        "2 requests were lost: a replica failed, and they were not sent again"
    ]


def test_requests_wait_at_the_gateway_while_no_replica_is_up() -> None:
    result = one_at_a_time(Faults([failure(1.5, 8.5)]), [(0.0, 10, 2), (3.0, 10, 2)])
    assert result.requests["completed_s"].tolist() == [11.0, 13.0]
    assert result.requests["num_retries"].tolist() == [1, 0]
    assert result.summary["faults"]["availability"] == pytest.approx(1 - 8.5 / 13)
    assert result.summary["bubbles"]["down"] == [pytest.approx(8.5 / 13)]


def test_requests_are_stuck_if_no_replica_recovers() -> None:
    result = one_at_a_time(Faults([failure(1.5)]), [(0.0, 10, 2), (3.0, 10, 2)])
    assert result.status.tolist() == [STUCK, STUCK]
    assert result.end_s == 3.0
    assert "No replica came back" in result.summary["warnings"][0]


def test_a_request_is_lost_after_max_retries() -> None:
    faults = Faults([failure(0.5, 0.1), failure(1.0, 0.1), failure(1.5, 0.1)], max_retries=2)
    result = one_at_a_time(faults, [(0.0, 10, 2)])
    assert result.status.tolist() == [LOST]
    assert result.requests["num_retries"].tolist() == [2]


def test_a_fault_after_the_last_request_changes_nothing() -> None:
    usual, late = (
        serve_with_faults(None),
        serve_with_faults(Faults([failure(1e6, 1.0)], [FaultRate(FAILURE, 1e7, 1.0)])),
    )
    assert late.end_s == usual.end_s
    assert late.summary["e2e_s"] == usual.summary["e2e_s"]
    assert late.summary["faults"]["num_failures"] == 0


def test_iterations_that_start_on_a_slow_replica_take_longer() -> None:
    slow = Fault(SLOWDOWN, 1.5, 1.0, 0, 3.0)
    # The iteration that starts at 2 s, within the fault, takes three seconds.
    result = one_at_a_time(Faults([slow]), [(0.0, 10, 5)])
    assert result.replicas[0].logged.end_s.tolist() == [1.0, 2.0, 5.0, 6.0, 7.0]
    both = one_at_a_time(Faults([slow, Fault(SLOWDOWN, 1.9, 0.5, None, 2.0)]), [(0.0, 10, 5)])
    assert both.replicas[0].logged.end_s.tolist() == [1.0, 2.0, 8.0, 9.0, 10.0]


@pytest.mark.parametrize("layout", [["parallel.tp=4"], ["parallel.pp=2"]])
def test_a_slow_network_lengthens_messages_only(layout: list[str]) -> None:
    parts = load_config("model=llama2_70b", "parallel.tp=4", "trace.num_requests=20", "arrival.qps=0.2", *layout)
    usual = simulate(**parts)
    slow = simulate(**parts | {"faults": Faults([Fault(NETWORK, 0.0, None, None, 2.0)])})
    slower = simulate(**parts | {"faults": Faults([Fault(NETWORK, 0.0, None, None, 3.0)])})
    first_s = [
        run.replicas[0].logged.end_s[0] - run.replicas[0].iterations["start_s"][0] for run in (usual, slow, slower)
    ]
    assert first_s[1] - first_s[0] > 1e-4
    # The added time is proportional to the slowdown minus one.
    assert first_s[2] - first_s[1] == pytest.approx(first_s[1] - first_s[0])


def test_a_slow_network_gives_a_warning_if_replicas_have_one_gpu() -> None:
    result = serve_with_faults(Faults([Fault(NETWORK, 0.0, None, None, 2.0)]))
    assert "a slower network changes nothing: replicas of one GPU send no messages" in result.summary["warnings"]


def test_faults_have_the_configured_rates() -> None:
    faults = Faults(rates=[FaultRate(FAILURE, 100.0, 20.0), FaultRate(SLOWDOWN, 50.0, 10.0, 1, 2.0)])
    stream = faults.in_order(3, [0, 3])
    drawn = [next(stream) for _ in range(6000)]
    assert [fault.at_s for fault in drawn] == sorted(fault.at_s for fault in drawn)
    for replica in range(3):
        own = [fault for fault in drawn if fault.replica == replica and fault.kind == FAILURE]
        up = [after.at_s - before.end_s for before, after in pairwise(own)]
        assert min(up) > 0
        assert np.mean(up) == pytest.approx(100, rel=0.1)
        assert np.mean([fault.end_s - fault.at_s for fault in own]) == pytest.approx(20, rel=0.1)
    assert {fault.replica for fault in drawn if fault.kind == SLOWDOWN} == {1}


def test_random_faults_depend_on_no_other_replica_or_rate() -> None:
    failures, slowdowns = FaultRate(FAILURE, 100.0, 20.0), FaultRate(SLOWDOWN, 10.0, 1.0, None, 2.0)

    def failures_of_first(faults: Faults, num_replicas: int) -> list[Fault]:
        stream = faults.in_order(num_replicas, [7, 3])
        faults_in_order = (next(stream) for _ in range(2000))
        return [fault for fault in faults_in_order if fault.replica == 0 and fault.kind == FAILURE][:10]

    alone = failures_of_first(Faults(rates=[failures]), 1)
    assert alone == failures_of_first(Faults(rates=[failures]), 5)
    assert alone == failures_of_first(Faults(rates=[failures, slowdowns]), 2)


def test_endless_faults_do_not_prolong_a_run() -> None:
    forever = Faults([failure(1.0, None, None)], [FaultRate(SLOWDOWN, 1.0, 1000.0, None, 2.0)])
    result = serve_with_faults(forever, BUSY, num_replicas=10)
    assert result.end_s < 3
    assert result.summary["num_stuck"] > 0


def test_no_request_is_sent_again_after_the_time_limit() -> None:
    result = one_at_a_time(Faults([failure(2.0, 100.0)]), [(0.0, 10, 5), (1.0, 10, 5)])
    assert result.end_s > 100
    limited = serve_with_faults(Faults([failure(0.5, 100.0, None)]), BUSY, time_limit_s=3.0)
    assert limited.end_s <= 3.0
    assert limited.summary["num_stuck"] == 0
    assert limited.summary["num_unfinished"] > 0
    # Both replicas fail at the same instant: requests of the first go to the second before that fails too.
    assert limited.summary["faults"]["num_retries"] == limited.requests["num_retries"].sum() == 4


def test_a_long_chain_of_follow_ups_can_be_lost() -> None:
    users = ("trace=sharegpt", "arrival=closed_loop", "arrival.users=1", "arrival.think_s=0", "trace.num_requests=3000")
    result = simulate(**load_config(*users, "faults.schedule=[{kind:failure,at_s:0.5}]", "faults.on_failure=lose"))
    assert result.summary["num_lost"] == 3000
    assert (result.known_until_s == 0.5).all()


FAULTS = st.builds(
    Fault,
    kind=st.just(FAILURE),
    at_s=st.floats(0, 4),
    for_s=st.one_of(st.none(), st.floats(0.01, 3)),
    replica=st.one_of(st.none(), st.integers(0, 1)),
) | st.builds(Fault, kind=st.just(SLOWDOWN), at_s=st.floats(0, 4), for_s=st.floats(0.01, 3), slowdown=st.floats(1.1, 5))


@given(
    st.lists(FAULTS, max_size=5),
    st.sampled_from(["resume", "restart", "lose"]),
    st.sampled_from(POLICIES),
    st.integers(1, 3),
    st.sampled_from([30, 100]),
    st.one_of(st.none(), st.floats(0.5, 3)),
)
@settings(max_examples=200, deadline=None)
def test_every_request_and_second_is_accounted_for(
    schedule: list[Fault], on_failure: str, policy: Scheduler, pp: int, num_blocks: int, time_limit_s: float | None
) -> None:
    faults = Faults(schedule, on_failure=on_failure, max_retries=3)
    result = serve_with_faults(
        faults, BUSY[:50], policy=policy, pp=pp, num_blocks=num_blocks, time_limit_s=time_limit_s
    )
    summary = result.summary
    assert sum(result.num_by_status.values()) == 50
    shares = [summary["busy_fraction"], *summary["bubbles"].values()]
    assert np.sum(shares, axis=0) == pytest.approx(1)
    assert min(map(min, shares)) >= -1e-9
    for replica in range(len(result.replicas)):
        for curve in (queue_length(result, [replica]), num_running(result, replica)):
            assert curve.value.min(initial=0) >= 0
            assert time_limit_s is not None or summary["num_stuck"] or len(curve.value) == 0 or curve.value[-1] == 0
        stalls(result, replica)
    if time_limit_s is None and not summary["num_stuck"]:
        done = result.status == FINISHED
        num_emitted = output_tokens(result).value
        assert (num_emitted[-1] if len(num_emitted) else 0) >= result.requests["output_tokens"][done].sum()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_request_that_is_too_long_leaves_the_queue(policy: Scheduler) -> None:
    result = serve_with_faults(Faults([failure(0.0, 1.0)]), [(0.5, 2000, 3)], policy=policy, num_replicas=1)
    assert result.summary["num_ignored"] == 1
    assert queue_length(result).at(np.array([99.0])).tolist() == [0]


def test_a_run_with_faults_is_saved_and_loaded_completely(tmp_path: Path) -> None:
    overrides = (
        "trace=sharegpt", "trace.num_requests=60", "arrival.qps=6", "cluster.replicas=2",
        "faults.schedule=[{kind:failure,replica:0,at_s:3,for_s:4},{kind:slowdown,at_s:1,for_s:2,slowdown:2}]",
    )  # fmt: skip
    result = write_run(tmp_path, *overrides)
    loaded = load_result(tmp_path)
    assert loaded.summary == result.summary
    assert loaded.summary["faults"]["num_retries"] > 0
    assert [asdict(span) for span in loaded.faults.spans] == [asdict(span) for span in result.faults.spans]
    assert "num_retries" in (tmp_path / "requests.csv").read_text().splitlines()[0]


FAULT = "{kind, at_s, for_s, replica, slowdown}"
MISTAKES = {
    "on_failure=ignore": "faults.on_failure must be one of resume, restart, lose; got 'ignore'",
    "schedule=3": f"faults.schedule must be a list of {FAULT}, got 3",
    "schedule=[3]": f"faults.schedule[0] must be {FAULT}, got 3",
    "schedule=[{kind:failure}]": "faults.schedule[0] lacks at_s",
    "schedule=[{kind:fire,at_s:1}]": "faults.schedule[0].kind must be one of failure, slowdown, network; got 'fire'",
    "schedule=[{kind:failure,at_s:1,mttr:3}]": (
        "faults.schedule[0].mttr is not a key; allowed are: kind, at_s, for_s, replica, slowdown"
    ),
    "schedule=[{kind:slowdown,at_s:1}]": "faults.schedule[0].slowdown must be above 1 for a slowdown, got 1.0",
    "schedule=[{kind:failure,at_s:1,replica:1}]": (
        "faults: replica 1 does not exist; the cluster has 1, numbered from 0"
    ),
    "rates=[{kind:failure,every_s:0,for_s:1}]": "faults.rates[0].every_s must be a number from 0.001 to 1e+12, got 0",
    "rates=[{kind:failure,every_s:9}]": "faults.rates[0] lacks for_s",
    "max_retries=-1": "faults.max_retries must be an integer from 0 to 1000000, got -1",
}


@pytest.mark.parametrize(("override", "message"), MISTAKES.items(), ids=MISTAKES)
def test_mistakes_are_named(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"faults.{override}", "trace.num_requests=3", "hydra.run.dir=run"]
    assert run_main(main, arguments, tmp_path, monkeypatch) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []
