"""`python -m profiling validate`."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pandas as pd

from profiling.options import PATH
from profiling.serving.recording import Recording, recording_folders
from profiling.tables import print_table
from profiling.validate.errors import (
    IterationErrors,
    LatencyError,
    Repeatability,
    iteration_errors,
    latency_errors,
    repeatability,
    validate,
)
from profiling.validate.replay import deployment_of
from traces.shared.atomic_files import write_atomic

if TYPE_CHECKING:
    from profiling.validate.fitted import Fitted


@click.command("validate", help="Compare recordings with predictions. RECORDINGS: folder of one, or of their folders.")
@click.argument("recordings", type=PATH)
@click.option(
    "--measurements",
    type=PATH,
    help="Tables of the device to fit and predict with.  [default: the recording's profile and engine]",
)
@click.option("--output", type=PATH, help="Folder for validation.json and figures.  [default: none]")
def command(recordings: Path, measurements: Path | None, output: Path | None) -> None:
    """Replay, predict and compare every recording.

    Raises:
        ValueError: A recording cannot be read, or the simulator decides other batches than were recorded.
    """
    read = [Recording.read(folder) for folder in recording_folders(recordings)]
    fitted = None
    if measurements is not None:
        from profiling.validate.fitted import Fitted  # needs scikit-learn, which replaying does not

        fitted = Fitted(measurements)
    validate_all(read, fitted, output)


def validate_all(recordings: Sequence[Recording], fitted: "Fitted | None", output: Path | None) -> None:
    """Compare recordings with their predictions: print, write and draw the errors.

    Args:
        recordings: The recordings.
        fitted: Fits to predict with; None: the profile and engine in each recording's configuration.
        output: Folder for validation.json and figures; None: no files.
    """
    validations = []
    for recording in recordings:
        deployment = deployment_of(recording)
        validations.append(validate(recording, deployment if fitted is None else fitted.predicting(deployment)))
    iterations = [error for validation in validations for error in iteration_errors(validation)]
    latencies = [error for validation in validations for error in latency_errors(validation)]
    repeats = list(repeatability(validations))
    _report(iterations, latencies)
    _report_repeats(repeats)
    if output is None:
        return
    plain = {
        "iterations": [asdict(errors) for errors in iterations],
        "latencies": [{**asdict(latency), "error": round(latency.error, 2)} for latency in latencies],
        "repeatability": [
            {**asdict(repeat), "spread": round(repeat.spread, 2), "error": round(repeat.error, 2)} for repeat in repeats
        ],
    }
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / "validation.json", (json.dumps(plain, indent=1) + "\n").encode())
    from profiling.validate.drawing import draw

    for validation in validations:
        draw(validation, output / f"{validation.recording.name}.png")
    print(f"written to {output}")


def _report(iterations: Sequence[IterationErrors], latencies: Sequence[LatencyError]) -> None:
    print_table(pd.DataFrame([asdict(errors) for errors in iterations]), "iteration time, error in per cent")
    rows: dict[tuple[str, int, str], dict[str, Any]] = {}
    for latency in latencies:
        key = latency.recording, latency.num_requests, latency.latency
        row = rows.setdefault(key, dict(zip(("recording", "requests", "latency"), key, strict=True)))
        row[latency.percentile] = f"{latency.measured_s:.4f} {latency.predicted_s:.4f} {latency.error:+.1f} %"
    print_table(pd.DataFrame(rows.values()), "latencies: recorded and simulated in seconds, and error")


def _report_repeats(repeats: Sequence[Repeatability]) -> None:
    if not repeats:
        return
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for repeat in repeats:
        row = rows.setdefault((repeat.recordings[0], repeat.latency), {"recordings": " ".join(repeat.recordings)})
        row["latency"] = repeat.latency
        row[repeat.percentile] = (
            f"{repeat.least_s:.4f} {repeat.most_s:.4f} {repeat.spread:.1f} %, {repeat.error:+.1f} %"
        )
    title = "recorded more than once: minimum and maximum in seconds, spread, error of the prediction against the mean"
    print_table(pd.DataFrame(rows.values()), title)
    spread = statistics.median(repeat.spread for repeat in repeats)
    error = statistics.median(abs(repeat.error) for repeat in repeats)
    num_between = sum(repeat.least_s <= repeat.predicted_s <= repeat.most_s for repeat in repeats)
    print(
        f"{len(repeats)} percentiles: recordings are {spread:.1f} % apart (median), predictions {error:.1f} % off "
        f"their mean (median), {num_between} within their range"
    )
