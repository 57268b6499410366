"""`python -m profiling validate`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from profiling.printed import print_table
from profiling.serving.recording import Recording, recording_folders
from profiling.tables import write_whole
from profiling.validate.errors import IterationErrors, LatencyError, iteration_errors, latency_errors
from profiling.validate.fitted import Fitted
from profiling.validate.replay import deployment_of, replay
from simulator.simulation import Deployment, simulate


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("recordings", type=Path, help="folder of a recording, or of folders of recordings")
    command.add_argument(
        "--measurements",
        type=Path,
        help="tables of the device: predict with what is fitted to them; default: the profile and the engine that the "
        "recording names",
    )
    command.add_argument("--output", type=Path, help="folder for validation.json and pictures; default: none")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Replay, predict and compare every recording.

    Raises:
        TableError: A recording cannot be read, or the simulator does not decide as was recorded.
    """
    recordings = [Recording.read(folder) for folder in recording_folders(options.recordings)]
    fitted = None if options.measurements is None else Fitted(options.measurements)
    validate_all(recordings, fitted, options.output)


def validate_all(recordings: Sequence[Recording], fitted: Fitted | None, output: Path | None) -> None:
    """Compare recordings with their predictions: print the errors, and write and draw them.

    Args:
        recordings: The recordings.
        fitted: What predicts; None: the profile and the engine that each recording names.
        output: Folder for validation.json and pictures; None: none.
    """
    iterations: list[IterationErrors] = []
    latencies: list[LatencyError] = []
    for recording in recordings:
        deployment = deployment_of(recording)
        if fitted is not None:
            deployment = fitted.predicting(deployment)
        more_iterations, more_latencies = validate(recording, deployment)
        iterations += more_iterations
        latencies += more_latencies
        if output is not None:
            from profiling.validate.drawing import draw

            output.mkdir(parents=True, exist_ok=True)
            draw(recording, deployment, output / f"{recording.name}.png")
    _report(iterations, latencies)
    if output is not None:
        rows = [{**asdict(one), "error": round(one.error, 2)} for one in latencies]
        plain = {"iterations": [asdict(one) for one in iterations], "latencies": rows}
        write_whole(output / "validation.json", (json.dumps(plain, indent=1) + "\n").encode())
        print(f"written to {output}")


def validate(recording: Recording, deployment: Deployment) -> tuple[list[IterationErrors], list[LatencyError]]:
    """Compare a recording with a deployment's prediction of it.

    Raises:
        ReplayError: The simulator, given the recorded times, does not decide as was recorded.
    """
    measured = replay(recording)
    predicted = simulate(recording.trace, deployment)
    return (
        list(iteration_errors(recording, deployment.stage_times())),
        list(latency_errors(recording.name, measured, predicted)),
    )


def _report(iterations: Sequence[IterationErrors], latencies: Sequence[LatencyError]) -> None:
    print_table(pd.DataFrame([asdict(one) for one in iterations]), "time of an iteration, error in per cent")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in latencies:
        row = rows.setdefault((one.recording, one.latency), {"recording": one.recording, "latency": one.latency})
        row[one.percentile] = f"{one.measured_s:.4f} {one.predicted_s:.4f} {one.error:+.1f} %"
    print_table(pd.DataFrame(rows.values()), "latencies: recorded and simulated, seconds, and error")
