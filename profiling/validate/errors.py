"""Errors of predicted iteration times and request latencies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from profiling.serving.recording import Recording, seconds_of
from profiling.validate.replay import batch_of, replay
from simulator.cluster import Deployment
from simulator.results import Result
from simulator.simulation import simulate

# Compared latencies of the simulator, and their percentiles.
COMPARED = ("ttft_s", "tbt_s", "e2e_s")
PERCENTILES = ("p50", "p90", "p99")
# A second is disturbed if its median ratio of measured to predicted time exceeds the median of the recording by this
# factor.
DISTURBED = 1.15


@dataclass(frozen=True)
class IterationErrors:
    """Errors of predicted iteration times, per cent of the measured times.

    Attributes:
        recording: Name of the recording.
        batches: Iterations counted: all, only decodes, or with a prefill chunk.
        num_iterations: Number of them.
        median: Median of the absolute error.
        p95: 95th percentile of the absolute error.
        bias: Median of the signed error; above 0: predicted too long.
        total: Signed error of their summed time.
        disturbed: Share of their time in disturbed seconds, per cent; see `disturbed_iterations`.
    """

    recording: str
    batches: str
    num_iterations: int
    median: float
    p95: float
    bias: float
    total: float
    disturbed: float


@dataclass(frozen=True)
class LatencyError:
    """A percentile of a latency, recorded and simulated.

    Attributes:
        recording: Name of the recording.
        num_requests: Requests in the recording; the P99 of few requests is their maximum.
        latency: Name of the latency, such as ttft_s.
        percentile: Such as p99.
        measured_s: Value in the recording.
        predicted_s: Value in the simulation.
    """

    recording: str
    num_requests: int
    latency: str
    percentile: str
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        """Signed error, per cent of the measured value."""
        return (self.predicted_s / self.measured_s - 1) * 100


@dataclass(frozen=True)
class Repeatability:
    """A latency percentile across recordings of one configuration.

    Its spread is the limit of any prediction's accuracy.

    Attributes:
        recordings: Names of the recordings.
        latency: Name of the latency, such as ttft_s.
        percentile: Such as p99.
        least_s: Minimum over the recordings.
        most_s: Maximum over the recordings.
        mean_s: Mean over the recordings.
        predicted_s: Value in the simulation.
    """

    recordings: Sequence[str]
    latency: str
    percentile: str
    least_s: float
    most_s: float
    mean_s: float
    predicted_s: float

    @property
    def spread(self) -> float:
        """Excess of the maximum over the minimum, per cent."""
        return (self.most_s / self.least_s - 1) * 100

    @property
    def error(self) -> float:
        """Signed error of the simulation, per cent of `mean_s`."""
        return (self.predicted_s / self.mean_s - 1) * 100


@dataclass(frozen=True)
class Validation:
    """A recording and its prediction.

    Attributes:
        recording: The recording.
        measured: Replay of the recording.
        predicted: The simulation of the same trace.
        predicted_s: Prediction of each recorded batch, float64[num_iterations].
    """

    recording: Recording
    measured: Result
    predicted: Result
    predicted_s: NDArray[np.float64]


def validate(recording: Recording, deployment: Deployment) -> Validation:
    """Replay a recording and predict it with a deployment.

    Raises:
        ReplayError: Given the recorded times, the simulator decides other batches than were recorded.
    """
    measured = replay(recording)
    times = deployment.stage_times()
    seconds = np.array([times(batch_of(step))[0] for step in recording.served.iterations])
    return Validation(recording, measured, simulate(recording.trace, deployment), seconds)


def iteration_errors(validation: Validation) -> Iterator[IterationErrors]:
    """Yield the errors of a validation's iterations.

    Yields those of all iterations, of decode-only ones, and of those with a prefill chunk.
    """
    recording, predicted = validation.recording, validation.predicted_s
    measured = seconds_of(recording.served)
    with_chunk = np.array([bool(step.chunks) for step in recording.served.iterations])
    start_s = np.array([step.start_s for step in recording.served.iterations])
    disturbed = disturbed_iterations(start_s, measured / predicted, with_chunk)
    for name, chosen in (("all", with_chunk | True), ("decodes", ~with_chunk), ("with a chunk", with_chunk)):
        if not chosen.any():
            continue
        error = (predicted[chosen] / measured[chosen] - 1) * 100
        absolute = np.abs(error)
        total = (predicted[chosen].sum() / measured[chosen].sum() - 1) * 100
        share = measured[chosen & disturbed].sum() / measured[chosen].sum() * 100
        figures = (np.median(absolute), np.percentile(absolute, 95), np.median(error), total, share)
        yield IterationErrors(recording.name, name, int(chosen.sum()), *(round(float(figure), 2) for figure in figures))


def disturbed_iterations(
    start_s: NDArray[np.float64], ratio: NDArray[np.float64], with_chunk: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Mark the iterations that start in disturbed seconds: bool[n].

    Args:
        start_s: float64[n], start of each iteration, seconds.
        ratio: float64[n], measured over predicted time.
        with_chunk: bool[n], whether an iteration has a prefill chunk; ratios are normalised within each kind.
    """
    ratios = pd.Series(ratio)
    typical = ratios.groupby(with_chunk).transform("median")
    return np.asarray((ratios / typical).groupby(np.floor(start_s)).transform("median") > DISTURBED)


def repeatability(validations: Sequence[Validation]) -> Iterator[Repeatability]:
    """Yield every latency percentile of configurations that were recorded more than once."""
    groups: dict[tuple[str, ...], list[Validation]] = {}
    for validation in validations:
        groups.setdefault(tuple(validation.recording.overrides), []).append(validation)
    for group in groups.values():
        if len(group) == 1:
            continue
        by_key = [{(error.latency, error.percentile): error for error in latency_errors(each)} for each in group]
        for latency, percentile in (key for key in by_key[0] if all(key in errors for errors in by_key)):
            repeats = [errors[latency, percentile] for errors in by_key]
            measured_s = [repeat.measured_s for repeat in repeats]
            yield Repeatability(
                recordings=[repeat.recording for repeat in repeats],
                latency=latency,
                percentile=percentile,
                least_s=min(measured_s),
                most_s=max(measured_s),
                mean_s=sum(measured_s) / len(measured_s),
                predicted_s=repeats[0].predicted_s,
            )


def latency_errors(validation: Validation) -> Iterator[LatencyError]:
    """Yield every latency percentile that both the recording and the simulation have."""
    name, num_requests = validation.recording.name, len(validation.recording.trace.prompt_tokens)
    for latency in COMPARED:
        for percentile in PERCENTILES:
            recorded, simulated = (
                result.latencies[latency].statistic(percentile)
                for result in (validation.measured, validation.predicted)
            )
            if recorded and simulated:
                yield LatencyError(name, num_requests, latency, percentile, recorded, simulated)
