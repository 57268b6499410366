"""Errors of predictions: of each recorded iteration for itself, and of what the requests saw."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiling.serving.recording import Recording, seconds_of
from profiling.validate.replay import batch_of, replay
from simulator.result import Result
from simulator.simulation import Deployment, simulate

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
        num_requests: Requests of the recording; the 99th percentile of few requests is their maximum.
        latency: Name of the latency, such as ttft_s.
        percentile: Such as p99.
        measured_s: Of the recording.
        predicted_s: Of the simulation.
    """

    recording: str
    num_requests: int
    latency: str
    percentile: str
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        """Signed error, per cent of the measured one."""
        return (self.predicted_s / self.measured_s - 1) * 100


@dataclass(frozen=True)
class Validation:
    """A recording and its prediction.

    Attributes:
        recording: The recording.
        measured: Its replay.
        predicted: The simulation of the same trace.
        predicted_s: Prediction of each recorded batch, float64[num_iterations].
    """

    recording: Recording
    measured: Result
    predicted: Result
    predicted_s: NDArray[np.float64]


def validate(recording: Recording, deployment: Deployment) -> Validation:
    """Replay a recording, and predict it with a deployment.

    Raises:
        ReplayError: The simulator, given the recorded times, does not decide as was recorded.
    """
    measured = replay(recording)
    times = deployment.stage_times()
    seconds = np.array([times(batch_of(one))[0] for one in recording.served.iterations])
    return Validation(recording, measured, simulate(recording.trace, deployment), seconds)


def iteration_errors(found: Validation) -> Iterator[IterationErrors]:
    """Yield the errors of all iterations, of those that decode alone, and of those with a chunk."""
    recording, predicted = found.recording, found.predicted_s
    measured = seconds_of(recording.served)
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


def latency_errors(found: Validation) -> Iterator[LatencyError]:
    """Yield every percentile of every latency that both have."""
    name, num_requests = found.recording.name, len(found.recording.trace.prompt_tokens)
    for latency in COMPARED:
        for percentile in PERCENTILES:
            recorded, simulated = (
                one.latencies[latency].statistic(percentile) for one in (found.measured, found.predicted)
            )
            if recorded and simulated:
                yield LatencyError(name, num_requests, latency, percentile, recorded, simulated)
