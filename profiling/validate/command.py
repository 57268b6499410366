"""`python -m profiling validate`."""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from profiling.serving.recording import Recording, recording_folders
from profiling.tables import print_table, write_whole
from profiling.validate.errors import (
    IterationErrors,
    LatencyError,
    Repeatability,
    iteration_errors,
    latency_errors,
    repeatability,
    validate,
)
from profiling.validate.fitted import Fitted
from profiling.validate.replay import deployment_of


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
    found = []
    for recording in recordings:
        deployment = deployment_of(recording)
        found.append(validate(recording, deployment if fitted is None else fitted.predicting(deployment)))
    iterations = [error for one in found for error in iteration_errors(one)]
    latencies = [error for one in found for error in latency_errors(one)]
    repeats = list(repeatability(found))
    _report(iterations, latencies)
    _report_repeats(repeats)
    if output is None:
        return
    plain = {
        "iterations": [asdict(one) for one in iterations],
        "latencies": [{**asdict(one), "error": round(one.error, 2)} for one in latencies],
        "repeatability": [
            {**asdict(one), "spread": round(one.spread, 2), "error": round(one.error, 2)} for one in repeats
        ],
    }
    write_whole(output / "validation.json", (json.dumps(plain, indent=1) + "\n").encode())
    from profiling.validate.drawing import draw

    for one in found:
        draw(one, output / f"{one.recording.name}.png")
    print(f"written to {output}")


def _report(iterations: Sequence[IterationErrors], latencies: Sequence[LatencyError]) -> None:
    print_table(pd.DataFrame([asdict(one) for one in iterations]), "time of an iteration, error in per cent")
    rows: dict[tuple[str, int, str], dict[str, Any]] = {}
    for one in latencies:
        key = one.recording, one.num_requests, one.latency
        row = rows.setdefault(key, dict(zip(("recording", "requests", "latency"), key, strict=True)))
        row[one.percentile] = f"{one.measured_s:.4f} {one.predicted_s:.4f} {one.error:+.1f} %"
    print_table(pd.DataFrame(rows.values()), "latencies: recorded and simulated, seconds, and error")


def _report_repeats(repeats: Sequence[Repeatability]) -> None:
    if not repeats:
        return
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in repeats:
        row = rows.setdefault((one.recordings[0], one.latency), {"recordings": " ".join(one.recordings)})
        row["latency"] = one.latency
        row[one.percentile] = f"{one.least_s:.4f} {one.most_s:.4f} {one.spread:.1f} %, {one.error:+.1f} %"
    title = "recorded more than once: least and most in seconds, spread, error of the prediction against their mean"
    print_table(pd.DataFrame(rows.values()), title)
    spread = statistics.median(one.spread for one in repeats)
    error = statistics.median(abs(one.error) for one in repeats)
    num_between = sum(one.least_s <= one.predicted_s <= one.most_s for one in repeats)
    print(
        f"{len(repeats)} percentiles: recordings are {spread:.1f} % apart (median), predictions {error:.1f} % off "
        f"their mean, {num_between} between them"
    )
