"""`python -m profiling record`."""

from pathlib import Path

import click
import numpy as np

from profiling import options
from profiling.device.environment import require_torch
from profiling.serving.recorder import Recorder
from profiling.serving.recording import RECORDING, Recording, seconds_of
from traces.shared.command_line import as_called

_KEYS = "KEY=VALUE: as of python -m simulator; model, scheduler, trace, arrival, kv_cache, engine."


@click.command("record", help=as_called(f"Serve a trace in real time on this machine's GPU. {_KEYS}"))
@options.output("New folder for the recording.")
@options.run_on
@options.overrides
def command(output: Path, on: str, overrides: tuple[str, ...]) -> None:
    """Serve a trace in real time and record every iteration.

    Raises:
        ValueError: An option is invalid, or there is no GPU.
    """
    if (output / RECORDING).exists():
        raise ValueError(f"{output} already has a recording: use another --output")
    torch = require_torch(on)
    with torch.inference_mode():
        recording = Recorder(torch, on).record(output.resolve().name, overrides)
    recording.write(output)
    print(f"{output}: {summarize(recording)}")


def summarize(recording: Recording) -> str:
    """Summarize a recording in one line."""
    iterations, completed_s = recording.served.iterations, recording.served.completed_s
    num_completed = int((~np.isnan(completed_s)).sum())
    return (
        f"{len(iterations):,} iterations, {num_completed:,} of {len(completed_s):,} requests completed, "
        f"{seconds_of(recording.served).sum():.1f} of {iterations[-1].end_s if iterations else 0:.1f} s busy"
    )
