"""Queueing theory: a server that takes one request at a time is a single-server queue."""

import numpy as np
import pytest

from simulator.simulation import simulate
from tests.helpers import single_server
from traces import Trace
from traces.arrivals import Poisson

NUM_REQUESTS = 40_000


def waiting_times(rate: float, output_tokens: np.ndarray, seed: int) -> np.ndarray:
    """Return the scheduling delays at a server that takes one second per token, float64[NUM_REQUESTS]."""
    trace = Trace(np.ones(NUM_REQUESTS, dtype=np.int64), output_tokens)
    trace = Poisson(qps=rate).assign(trace, np.random.default_rng(seed))
    table = simulate(trace, single_server()).requests
    return table["first_scheduled_s"] - table["arrival_s"]


def mean_and_error(samples: np.ndarray) -> tuple[float, float]:
    """Return the mean and three standard errors; batch means, because waiting times are correlated."""
    batches = samples[len(samples) // 20 :].reshape(-1, 20 * 50).mean(axis=1)
    return float(batches.mean()), 3 * float(batches.std(ddof=1)) / len(batches) ** 0.5


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_deterministic_service_waits_as_in_an_m_d_1_queue(load: float) -> None:
    mean, error = mean_and_error(waiting_times(load, np.ones(NUM_REQUESTS, dtype=np.int64), seed=1))
    assert error < 0.2 * load / (2 * (1 - load))
    assert mean == pytest.approx(load / (2 * (1 - load)), abs=error)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_geometric_service_waits_as_in_an_m_g_1_queue(load: float) -> None:
    """Pollaczek-Khinchine: rate E[S^2] / (2 (1 - load)); geometric with mean 20 is nearly M/M/1."""
    service = np.random.default_rng(3).geometric(1 / 20, NUM_REQUESTS)
    rate = load / service.mean()
    mean, error = mean_and_error(waiting_times(rate, service, seed=2))
    expected = rate * np.mean(service.astype(float) ** 2) / (2 * (1 - load))
    assert error < 0.25 * expected
    assert mean == pytest.approx(expected, abs=error)
