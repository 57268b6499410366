"""Errors of predictions: of each recorded iteration for itself, and of what the requests saw."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiling.serving.recording import Recording, seconds_of
from profiling.validate.replay import batch_of
from simulator.iteration_time.base import StageTimes
from simulator.result import Result

# Names of the simulator's latencies, and which percentiles are compared.
COMPARED = ("ttft_s", "tbt_s", "e2e_s")
PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True)
class IterationErrors:
    """How far predicted iteration times are off, per cent of the measured ones.

    Attributes:
        recording: Name of the recording.
        batches: Which iterations: all, decodes alone, or those with a prefill chunk.
        num_iterations: Number of them.
        median: Median of the absolute error.
        p95: 95th percentile of the absolute error.
        bias: Median of the signed error; above 0: predicted too long.
        total: Signed error of the sum of all of them.
    """

    recording: str
    batches: str
    num_iterations: int
    median: float
    p95: float
    bias: float
    total: float


@dataclass(frozen=True)
class LatencyError:
    """A percentile of a latency, recorded and simulated.

    Attributes:
        recording: Name of the recording.
        latency: Name of the latency, such as ttft_s.
        percentile: Such as p99.
        measured_s: Of the recording.
        predicted_s: Of the simulation.
    """

    recording: str
    latency: str
    percentile: str
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        """Signed error, per cent of the measured one."""
        return (self.predicted_s / self.measured_s - 1) * 100


def predicted_seconds(recording: Recording, times: StageTimes) -> NDArray[np.float64]:
    """Predict each recorded batch: float64[num_iterations]."""
    return np.array([times(batch_of(one))[0] for one in recording.served.iterations])


def iteration_errors(recording: Recording, times: StageTimes) -> Iterator[IterationErrors]:
    """Yield the errors of all iterations, of those that decode alone, and of those with a chunk."""
    measured, predicted = seconds_of(recording.served), predicted_seconds(recording, times)
    with_chunk = np.array([bool(one.chunks) for one in recording.served.iterations])
    for name, chosen in (("all", with_chunk | True), ("decodes", ~with_chunk), ("with a chunk", with_chunk)):
        if not chosen.any():
            continue
        error = (predicted[chosen] / measured[chosen] - 1) * 100
        absolute = np.abs(error)
        total = (predicted[chosen].sum() / measured[chosen].sum() - 1) * 100
        figures = (np.median(absolute), np.percentile(absolute, 95), np.median(error), total)
        median, p95, bias, total = (round(float(one), 2) for one in figures)
        yield IterationErrors(recording.name, name, int(chosen.sum()), median, p95, bias, total)


def latency_errors(name: str, measured: Result, predicted: Result) -> Iterator[LatencyError]:
    """Yield every percentile of every latency that both have."""
    for latency in COMPARED:
        for percentile in PERCENTILES:
            recorded, simulated = (one.latencies[latency].statistic(percentile) for one in (measured, predicted))
            if recorded and simulated:
                yield LatencyError(name, latency, percentile, recorded, simulated)
