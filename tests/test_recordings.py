"""Shipped recordings: the simulator repeats every batch, and predicts times as well as the documentation claims."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from profiling.serving.recording import Recording, recording_folders
from profiling.tables import Header, read_table
from profiling.validate.errors import (
    IterationErrors,
    LatencyError,
    Validation,
    iteration_errors,
    latency_errors,
    repeatability,
    validate,
)
from profiling.validate.fitted import Fitted
from profiling.validate.replay import deployment_of, replay
from tests.helpers import REPOSITORY

RECORDINGS = REPOSITORY / "profiling/recordings"
MEASUREMENTS = REPOSITORY / "profiling/measurements"
FOLDERS = recording_folders(RECORDINGS)
# Claims of docs/fidelity.md by device, in per cent: median error of an iteration, and error of the median TBT.
CLAIMS = {"cpu": (12.0, 18.5)}


@cache
def fitted(device: str) -> Fitted:
    return Fitted(MEASUREMENTS / device)


@cache
def validation(folder: Path) -> Validation:
    recording = Recording.read(folder)
    return validate(recording, fitted(recording.header.device).predicting(deployment_of(recording)))


def errors(folder: Path) -> tuple[list[IterationErrors], list[LatencyError]]:
    result = validation(folder)
    return list(iteration_errors(result)), list(latency_errors(result))


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}-{folder.name}"


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_the_simulator_repeats_every_recorded_batch(folder: Path) -> None:
    recording = Recording.read(folder)
    result = replay(recording)
    assert sum(len(replica.iterations["end_s"]) for replica in result.replicas) == len(recording.served.iterations)
    assert np.isfinite(recording.served.completed_s).all()


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_predictions_are_as_accurate_as_the_documentation_claims(folder: Path) -> None:
    iterations, latencies = errors(folder)
    median, tbt = CLAIMS[Recording.read(folder).header.device]
    assert iterations[0].batches == "all"
    assert iterations[0].median <= median
    (tbt_p50,) = [error for error in latencies if (error.latency, error.percentile) == ("tbt_s", "p50")]
    assert abs(tbt_p50.error) <= tbt


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_the_documented_errors_match_the_computed_ones(folder: Path) -> None:
    written = json.loads((REPOSITORY / "docs/validation/validation.json").read_text())
    iterations, latencies = errors(folder)
    medians = {(row["recording"], row["batches"]): row["median"] for row in written["iterations"]}
    for iteration in iterations:
        assert medians[iteration.recording, iteration.batches] == pytest.approx(iteration.median, abs=0.3)
    shown = {(row["recording"], row["latency"], row["percentile"]): row["error"] for row in written["latencies"]}
    for latency in latencies:
        assert shown[latency.recording, latency.latency, latency.percentile] == pytest.approx(latency.error, abs=1.0)


def test_repeated_recordings_differ_as_much_as_the_documentation_claims() -> None:
    written = json.loads((REPOSITORY / "docs/validation/validation.json").read_text())["repeatability"]
    repeats = list(repeatability([validation(folder) for folder in FOLDERS]))
    assert {len(repeat.recordings) for repeat in repeats} == {2}
    assert [row["spread"] for row in written] == pytest.approx([repeat.spread for repeat in repeats], abs=0.01)
    assert [row["error"] for row in written] == pytest.approx([repeat.error for repeat in repeats], abs=1.0)
    # docs/fidelity.md: median error 3.0 %, 37 of 54 predictions between the two recordings.
    assert np.median([abs(repeat.error) for repeat in repeats]) == pytest.approx(3.0, abs=0.3)
    assert sum(repeat.least_s <= repeat.predicted_s <= repeat.most_s for repeat in repeats) == pytest.approx(37, abs=2)


@pytest.mark.parametrize("folder", sorted(MEASUREMENTS.iterdir()), ids=lambda path: path.name)
def test_shipped_measurements_are_small_and_state_their_source(folder: Path) -> None:
    header = Header.read(folder)
    assert header.device == folder.name
    assert header.licence == "Apache-2.0"
    assert all(path.stat().st_size < 2_000_000 for path in folder.iterdir())
    for family in ("matmul", "elementwise", "attention", "host", "iteration"):
        assert len(read_table(folder, family)) > 0
