"""The front end: requests are taken in one at a time, tokens of an iteration are sent together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import Result, simulate
from simulator.cluster import Deployment, Fault, Faults
from simulator.iteration_time import Affine
from simulator.log import FAILURE
from simulator.model import EngineOverhead, FrontEndTime, KVMemory, Parallelism
from simulator.output import Files, load_result, write_result
from simulator.results import FINISHED, client_figures
from simulator.schedulers import VLLMV1, Sarathi
from tests.helpers import A100, tiny_model, trace_of
from traces import Trace
from traces.arrivals import ClosedLoop

TIME = FrontEndTime(request_s=0.2, latency_s=0.5, latency_per_token_s=0.001, step_s=0.01, token_s=0.02)
SECOND = Affine(base_s=1.0, per_token_s=0.0)


def served(trace: Trace, front_end: FrontEndTime | None = TIME, faults: Faults | None = None) -> Result:
    deployment = Deployment(
        tiny_model(1024),
        A100,
        Sarathi(),
        Parallelism(),
        SECOND,
        KVMemory(num_blocks=1000),
        engine=EngineOverhead(front_end=front_end),
    )
    return simulate(trace, deployment, faults=faults, check=True)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 40)), min_size=1, max_size=30),
    st.floats(0, 0.2),
    st.floats(0, 0.1),
)
def test_iterations_are_sent_in_order_each_after_its_end(
    iterations: list[tuple[float, int]], step_s: float, token_s: float
) -> None:
    gaps, tokens = zip(*iterations, strict=True)
    end_s, num_tokens = np.cumsum(gaps), np.array(tokens, dtype=float)
    sent_s, free_s = [], 0.0
    for end, count in zip(end_s.tolist(), tokens, strict=True):
        free_s = max(free_s, end) + step_s + token_s * count
        sent_s.append(free_s)
    times = FrontEndTime(step_s=step_s, token_s=token_s)
    assert times.delivered_s(end_s, num_tokens) == pytest.approx(np.array(sent_s), abs=1e-9)


def test_a_front_end_without_time_changes_nothing() -> None:
    trace = trace_of([(0.1 * number, 50, 5) for number in range(20)])
    with_none, with_zeros = served(trace, None), served(trace, FrontEndTime())
    for name, column in with_none.requests.items():
        assert np.array_equal(column, with_zeros.requests[name]), name


def test_a_lone_request_waits_for_the_event_loop_the_tokenizer_and_the_stream() -> None:
    table = served(trace_of([(1.0, 100, 3)])).requests
    ready_s = 1.0 + 0.2 + 0.5 + 0.1
    assert table["first_scheduled_s"][0] == pytest.approx(ready_s)
    assert table["first_token_s"][0] == pytest.approx(ready_s + 1.0 + 0.03)
    assert table["completed_s"][0] == pytest.approx(ready_s + 3.0 + 0.03)


def test_requests_are_taken_in_one_at_a_time_but_wait_for_the_tokenizer_together() -> None:
    table = served(trace_of([(0.0, 100, 1)] * 3), replace(TIME, step_s=0.0, token_s=0.0)).requests
    # The second and the third are ready while the first computes.
    assert table["first_scheduled_s"] == pytest.approx([0.8, 1.8, 1.8])
    alone = served(trace_of([(0.0, 100, 1)] * 3), FrontEndTime(request_s=0.2, latency_s=5.0)).requests
    assert alone["first_scheduled_s"] == pytest.approx([5.2, 6.2, 6.2])


def test_an_arrival_waits_while_tokens_are_sent() -> None:
    slow = FrontEndTime(request_s=0.1, step_s=0.8)
    # The first iteration ends at 1.1 and is sent until 1.9.
    table = served(trace_of([(0.0, 10, 5), (1.2, 10, 1)]), slow).requests
    assert table["first_token_s"][0] == pytest.approx(1.9)
    assert table["first_scheduled_s"][1] == pytest.approx(2.1)  # ready at 2.0, behind the iteration that began at 1.1


def test_a_user_sends_the_next_request_when_the_last_token_has_arrived() -> None:
    lengths = Trace(np.array([10, 10]), np.array([2, 2]))
    trace = ClosedLoop(users=1).assign(lengths, np.random.default_rng(0))
    table = served(trace).requests
    assert table["arrival_s"][1] == pytest.approx(table["completed_s"][0])


@pytest.mark.parametrize(("on_failure", "num_finished"), [("restart", 2), ("lose", 1)])
def test_a_failure_drops_what_the_front_end_holds(on_failure: str, num_finished: int) -> None:
    trace = trace_of([(0.0, 10, 1), (5.0, 10, 1)])
    faults = Faults([Fault(kind=FAILURE, replica=0, at_s=5.3, for_s=2.0)], on_failure=on_failure)
    result = served(trace, faults=faults)
    assert int(np.count_nonzero(result.status == FINISHED)) == num_finished
    assert result.requests["num_retries"].tolist() == [0, num_finished - 1]


def test_a_saved_run_keeps_its_front_end(tmp_path: Path) -> None:
    result = served(trace_of([(0.3 * number, 50, 5) for number in range(10)]))
    write_result(result, tmp_path, {"config": {}, "clients": client_figures(result)}, Files())
    loaded = load_result(tmp_path)
    assert loaded.summary == result.summary
    assert np.array_equal(loaded.replicas[0].delivered_s, result.replicas[0].delivered_s)


def test_the_last_event_is_not_before_the_last_token() -> None:
    result = served(trace_of([(0.0, 10, 3)]))
    assert result.end_s == pytest.approx(float(result.requests["completed_s"].max()))


def test_overlapping_batches_are_sent_in_order_too() -> None:
    deployment = Deployment(
        tiny_model(1024),
        A100,
        VLLMV1(async_scheduling=True),
        Parallelism(),
        SECOND,
        KVMemory(num_blocks=1000),
        engine=EngineOverhead(front_end=TIME),
    )
    result = simulate(trace_of([(0.7 * number, 50, 9) for number in range(12)]), deployment, check=True)
    log = result.replicas[0]
    assert (np.diff(log.delivered_s) > 0).all()
    assert (log.delivered_s > log.logged.end_s).all()


def test_a_busy_front_end_is_a_warning() -> None:
    trace = trace_of([(0.1 * number, 50, 20) for number in range(20)])
    busy, idle = served(trace, FrontEndTime(token_s=0.05)), served(trace, FrontEndTime(token_s=0.001))
    assert any("a front end is busy for" in text for text in busy.summary["warnings"])
    assert not any("front end" in text for text in idle.summary["warnings"])
