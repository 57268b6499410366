"""`python -m profiling record`."""

import argparse
from pathlib import Path

import numpy as np

from profiling.device.environment import CPU, CUDA, require_torch
from profiling.serving.recorder import Recorder
from profiling.serving.recording import RECORDING, Recording, seconds_of


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("--output", type=Path, required=True, help="new folder for the recording")
    command.add_argument("--on", choices=(CUDA, CPU), default=CUDA, help="device to run on; default: cuda")
    command.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="configuration, as of python -m simulator: model, scheduler, trace, arrival, kv_cache, engine ...",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve a trace in real time and record every iteration.

    Raises:
        ValueError: An option is invalid, or there is no GPU.
    """
    if (options.output / RECORDING).exists():
        raise ValueError(f"{options.output} already has a recording: use another --output")
    torch = require_torch(options.on)
    with torch.inference_mode():
        recording = Recorder(torch, options.on).record(options.output.resolve().name, options.overrides)
    recording.write(options.output)
    print(f"{options.output}: {summarize(recording)}")


def summarize(recording: Recording) -> str:
    """Summarize a recording in one line."""
    iterations, completed_s = recording.served.iterations, recording.served.completed_s
    num_completed = int((~np.isnan(completed_s)).sum())
    return (
        f"{len(iterations):,} iterations, {num_completed:,} of {len(completed_s):,} requests completed, "
        f"{seconds_of(recording.served).sum():.1f} of {iterations[-1].end_s if iterations else 0:.1f} s busy"
    )
