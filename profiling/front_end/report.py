"""What the measurement of a front end prints and writes."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pandas as pd

from profiling.device.environment import processor
from profiling.front_end.fit import Fit
from profiling.front_end.summary import RunSummary
from profiling.tables import print_table


def print_report(runs: Sequence[RunSummary], fitted: Fit) -> None:
    """Print a table of the runs and the fitted constants."""
    rows = [_row(run, residual) for run, residual in zip(runs, fitted.residuals, strict=True)]
    print_table(pd.DataFrame(rows), "CPU seconds per second of event loop and process; latencies: mean and p50 in ms")
    for name, value in asdict(fitted.constants).items():
        print(f"{name}: {value:.3g}")
    if any(residual is None for residual in fitted.residuals):
        print("runs without a residual saturate the event loop and are left out of the fit")


def _row(run: RunSummary, residual: float | None) -> dict[str, Any]:
    return {
        "requests/s": f"{run.rate:g}",
        "output tokens": run.output_tokens,
        "streams": f"{run.streams:.1f}",
        "event loop": f"{run.loop_share:.3f}",
        "process": f"{run.cpu.process_s / run.seconds:.3f}",
        "waiting for a core": f"{run.cpu.waited_s / run.seconds:.3f}",
        "before the engine": f"{1e3 * run.before_engine.mean_s:.2f} {1e3 * run.before_engine.p50_s:.2f}",
        "delivery of a token": f"{1e3 * run.delivery.mean_s:.2f} {1e3 * run.delivery.p50_s:.2f}",
        "residual": "" if residual is None else f"{100 * residual:+.1f} %",
    }


def report_bytes(runs: Sequence[RunSummary], fitted: Fit, options: Mapping[str, Any]) -> bytes:
    """Return constants, runs and what they were measured on, as JSON."""
    pairs = zip(runs, fitted.residuals, strict=True)
    content = {
        "constants": asdict(fitted.constants),
        "runs": [{**asdict(run), "residual": residual} for run, residual in pairs],
        "options": dict(options),
        "environment": {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": platform.platform(),
            "processor": processor(len(os.sched_getaffinity(0))),
            "python": platform.python_version(),
            "vllm": version("vllm"),
        },
    }
    return (json.dumps(content, indent=1) + "\n").encode()
