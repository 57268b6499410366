"""Errors of predictions: of each recorded iteration for itself, and of what the requests saw."""

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

# Names of the simulator's latencies, and which percentiles are compared.
COMPARED = ("ttft_s", "tbt_s", "e2e_s")
PERCENTILES = ("p50", "p90", "p99")
# A second is disturbed if its median iteration took so many times as long, against the prediction, as the median one of
# the recording.
DISTURBED = 1.15


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
        disturbed: Share of their time in disturbed seconds, per cent.
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
class Repeatability:
    """A percentile of a latency in recordings of the same configuration: no prediction agrees with all of them.

    Attributes:
        recordings: Their names.
        latency: Name of the latency, such as ttft_s.
        percentile: Such as p99.
        least_s: Of the recording where it is least.
        most_s: Of the recording where it is most.
        mean_s: Mean over the recordings.
        predicted_s: Of the simulation.
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
        """How much more the most is than the least, per cent."""
        return (self.most_s / self.least_s - 1) * 100

    @property
    def error(self) -> float:
        """Signed error of the simulation, per cent of the mean."""
        return (self.predicted_s / self.mean_s - 1) * 100


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
    start_s = np.array([one.start_s for one in recording.served.iterations])
    disturbed = disturbed_iterations(start_s, measured / predicted, with_chunk)
    for name, chosen in (("all", with_chunk | True), ("decodes", ~with_chunk), ("with a chunk", with_chunk)):
        if not chosen.any():
            continue
        error = (predicted[chosen] / measured[chosen] - 1) * 100
        absolute = np.abs(error)
        total = (predicted[chosen].sum() / measured[chosen].sum() - 1) * 100
        share = measured[chosen & disturbed].sum() / measured[chosen].sum() * 100
        figures = (np.median(absolute), np.percentile(absolute, 95), np.median(error), total, share)
        yield IterationErrors(recording.name, name, int(chosen.sum()), *(round(float(one), 2) for one in figures))


def disturbed_iterations(
    start_s: NDArray[np.float64], ratio: NDArray[np.float64], with_chunk: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Tell which iterations began in disturbed seconds: bool[n].

    Args:
        start_s: float64[n], when they began.
        ratio: float64[n], their measured time over the predicted one.
        with_chunk: bool[n], whether they have a prefill chunk; those that have are held against each other.
    """
    ratios = pd.Series(ratio)
    usual = ratios.groupby(with_chunk).transform("median")
    return np.asarray((ratios / usual).groupby(np.floor(start_s)).transform("median") > DISTURBED)


def repeatability(found: Sequence[Validation]) -> Iterator[Repeatability]:
    """Yield every percentile of every latency of configurations that were recorded more than once."""
    groups: dict[tuple[str, ...], list[Validation]] = {}
    for one in found:
        groups.setdefault(tuple(one.recording.overrides), []).append(one)
    for same in groups.values():
        if len(same) == 1:
            continue
        known = [{(error.latency, error.percentile): error for error in latency_errors(one)} for one in same]
        for latency, percentile in (key for key in known[0] if all(key in errors for errors in known)):
            repeats = [errors[latency, percentile] for errors in known]
            measured_s = [one.measured_s for one in repeats]
            yield Repeatability(
                recordings=[one.recording for one in repeats],
                latency=latency,
                percentile=percentile,
                least_s=min(measured_s),
                most_s=max(measured_s),
                mean_s=sum(measured_s) / len(measured_s),
                predicted_s=repeats[0].predicted_s,
            )


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
