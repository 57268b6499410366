"""Overload: queues of known load, on both sides of saturation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.config import load_config
from simulator.iteration_time import Affine
from simulator.results.overload import backlog
from simulator.schedulers import Sarathi
from simulator.simulation import simulate
from tests.helpers import serve

Floats = NDArray[np.float64]


def queue(rho: float, num_requests: int, rng: np.random.Generator, deterministic: bool) -> tuple[Floats, Floats]:
    """Return arrivals and starts of service of a single server with a mean service time of 1 s."""
    arrival_s = np.cumsum(rng.exponential(1 / rho, num_requests))
    service_s = np.ones(num_requests) if deterministic else rng.exponential(1, num_requests)
    start_s, free_s = np.empty(num_requests), 0.0
    for number in range(num_requests):
        start_s[number] = max(arrival_s[number], free_s)
        free_s = start_s[number] + service_s[number]
    return arrival_s, start_s


def share_overloaded(rho: float, num_requests: int, deterministic: bool) -> float:
    rng = np.random.default_rng(7)
    one = np.zeros(num_requests, dtype=np.int64)
    runs = [backlog(*queue(rho, num_requests, rng, deterministic), one) > 0 for _ in range(60)]
    return float(np.mean(runs))


@pytest.mark.parametrize("deterministic", [False, True], ids=["M/M/1", "M/D/1"])
def test_queues_below_saturation_are_not_overloaded_and_those_above_are(deterministic: bool) -> None:
    below = [share_overloaded(rho, 2000, deterministic) for rho in (0.5, 0.8, 0.9)]
    above = [share_overloaded(rho, 2000, deterministic) for rho in (1.1, 1.3, 2.0)]
    assert max(below) <= 0.02
    assert min(above) >= 0.95
    assert share_overloaded(0.8, 400, deterministic) <= 0.05
    assert share_overloaded(1.3, 400, deterministic) >= 0.9


@pytest.mark.parametrize(("rate", "overloaded"), [(0.5, False), (0.8, False), (1.3, True), (5.0, True)])
def test_a_run_warns_of_overload_and_says_how_many_waited(rate: float, overloaded: bool) -> None:
    # The server takes one request at a time, for one second each.
    arrivals = np.cumsum(np.random.default_rng(5).exponential(1 / rate, 400))
    requests = [(arrival_s, 8, 1) for arrival_s in arrivals]
    result = serve(requests, Sarathi(max_num_seqs=1), iteration_time=Affine(base_s=1.0, per_token_s=0.0))
    assert result.summary["overloaded"] is overloaded
    texts = [warning.text for warning in result.warnings if warning.kind == "overloaded"]
    assert bool(texts) is overloaded
    if overloaded:
        waiting = np.count_nonzero(result.requests["first_scheduled_s"] > arrivals[-1])
        assert f"{waiting:,} waited when the last one arrived" in texts[0]


def test_a_replica_that_gets_too_much_is_an_overload_among_idle_ones() -> None:
    arrival_s = np.arange(400.0)
    replica = np.arange(400) % 4
    assert backlog(arrival_s, arrival_s + 0.5, replica) == 0
    starts_s = np.where(replica == 2, 2 * arrival_s, arrival_s + 0.5)
    assert backlog(arrival_s, starts_s, replica) == pytest.approx(50, abs=1)


def test_a_queue_that_grows_only_once_the_memory_is_full_is_an_overload() -> None:
    # As with an engine that admits a thousand requests: none waits in the first half.
    arrival_s = np.arange(1000.0)
    starts_s = np.where(arrival_s < 600, arrival_s, 600 + (arrival_s - 600) * 2)
    assert backlog(arrival_s, starts_s, np.zeros(1000, dtype=np.int64)) == 200


def test_users_of_a_closed_loop_cannot_overload_it() -> None:
    overrides = ("trace=fixed", "trace.num_requests=300", "arrival=closed_loop", "scheduler.max_num_seqs=4")
    result = simulate(**load_config(*overrides, "arrival.users=64"))
    assert result.latencies["scheduling_delay_s"].statistic("p50") > 1
    assert not result.overloaded
