"""Stays of requests at replicas: every request has them, with and without failures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import Result, load_result
from simulator.cluster import Faults
from simulator.log import StayEnd
from simulator.results import FINISHED, STUCK, queue_length, stalls
from tests.helpers import write_run
from tests.test_faults import failure, one_at_a_time, serve_with_faults

BOTH_FAIL = Faults([failure(0.5, 0.4), failure(0.6, 0.5, 1), failure(1.5, 0.2)])


def rows(result: Result) -> list[tuple[Any, ...]]:
    """Return request, replica, arrival, end, reason and whether it was running, of each stay."""
    return list(zip(*(column.tolist() for column in result.stays.columns.values()), strict=True))


def test_a_request_that_stays_has_one_stay_from_arrival_to_end() -> None:
    result = serve_with_faults(None)
    stays, table = result.stays, result.requests
    assert stays.request.tolist() == list(range(len(result.status)))
    assert stays.replica.tolist() == table["replica"].tolist()
    assert stays.arrived_s.tolist() == table["arrival_s"].tolist()
    assert stays.left_s.tolist() == table["completed_s"].tolist()
    assert (stays.why == StayEnd.FINISHED).all()
    assert stays.was_running.all()


def test_a_failure_ends_stays_in_the_queue_and_in_the_batch() -> None:
    result = one_at_a_time(Faults([failure(1.5, 8.5)]), [(0.0, 10, 2), (1.0, 10, 2), (3.0, 10, 2)])
    assert rows(result) == [
        (0, 0, 0.0, 1.5, StayEnd.FAILED, True),
        (1, 0, 1.0, 1.5, StayEnd.FAILED, False),
        (0, 0, 10.0, 11.0, StayEnd.FINISHED, True),
        (1, 0, 10.0, 13.0, StayEnd.FINISHED, True),
        (2, 0, 10.0, 15.0, StayEnd.FINISHED, True),
    ]
    assert result.stays.is_retry.tolist() == [False, False, True, True, False]
    assert result.requests["arrival_s"].tolist() == [0.0, 1.0, 3.0]


def test_a_request_that_waits_at_the_gateway_forever_has_left_its_replica() -> None:
    result = one_at_a_time(Faults([failure(1.5)]), [(0.0, 10, 2), (3.0, 10, 2)])
    assert rows(result) == [(0, 0, 0.0, 1.5, StayEnd.FAILED, True)]
    assert result.requests["replica"].tolist() == [-1, -1]


def test_a_refused_request_leaves_at_once() -> None:
    result = one_at_a_time(Faults(), [(0.5, 2000, 3)])
    assert rows(result) == [(0, 0, 0.5, 0.5, StayEnd.REFUSED, False)]


@pytest.mark.parametrize("on_failure", ["resume", "restart", "lose"])
def test_stays_tile_the_time_of_each_request_at_replicas(on_failure: str) -> None:
    result = serve_with_faults(Faults(BOTH_FAIL.schedule, on_failure=on_failure))
    stays, table = result.stays, result.requests
    assert np.bincount(stays.request).max() > (1 if on_failure != "lose" else 0)
    for request, status in enumerate(result.status.tolist()):
        own = stays.at(stays.request == request)
        assert (own.arrived_s[1:] >= own.left_s[:-1]).all()
        assert (own.arrived_s >= table["arrival_s"][request]).all()
        assert (own.why[:-1] == StayEnd.FAILED).all()
        if status == FINISHED:
            assert own.left_s[-1] == table["completed_s"][request]
            assert own.replica[-1] == table["replica"][request]
        assert table["num_retries"][request] == max(0, len(own.request) - 1)
    # Every request that is sent to a replica leaves it.
    assert (stays.why != StayEnd.STILL_THERE).all()
    assert result.summary["faults"]["num_retries"] == np.count_nonzero(stays.is_retry)


def test_a_stall_ends_when_the_replica_fails() -> None:
    result = one_at_a_time(Faults([failure(2.5, 7.5)]), [(0.0, 10, 5)])
    assert [times.tolist() for times in stalls(result, 0)] == [[1.0, 2.0, 11.0, 12.0], [1.0, 0.5, 1.0, 1.0]]
    assert queue_length(result).value.min() >= 0


def test_stays_are_saved_and_loaded(tmp_path: Path) -> None:
    result = write_run(
        tmp_path, "trace=sharegpt", "trace.num_requests=30", "arrival.qps=6", "faults.schedule=[{kind:failure,at_s:3}]"
    )
    assert (result.status == STUCK).any()
    loaded = load_result(tmp_path).stays
    for name, column in result.stays.columns.items():
        np.testing.assert_array_equal(loaded.columns[name], column)
