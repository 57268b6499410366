"""Reads simulated and measured runs.

Measured ones are results of `vllm bench serve --save-result`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simulator.results import LATENCIES, STATISTICS, Distribution
from traces.shared.json_file import read_json

THROUGHPUTS = ("requests_per_s", "output_tokens_per_s")
# Names in a result of `vllm bench serve`, where latencies are in milliseconds; its inter-token latency is our TBT.
_VLLM_LATENCIES = {"ttft_s": "ttft", "tbt_s": "itl", "tpot_s": "tpot", "e2e_s": "e2el"}
_VLLM_THROUGHPUTS = {"requests_per_s": "request_throughput", "output_tokens_per_s": "output_throughput"}


class ReadError(ValueError):
    """A run cannot be read.

    The message is one line that names the run.
    """


@dataclass(frozen=True)
class Run:
    """Metrics of one run.

    Attributes:
        name: Display name.
        measured: Whether the run was measured on an engine, not simulated.
        num_finished: Requests that finished.
        throughputs: Values by name in THROUGHPUTS; None: unknown.
        latencies: Seconds by name in LATENCIES and statistic (mean, p50, p90, ...); None: unknown.
    """

    name: str
    measured: bool
    num_finished: int
    throughputs: Mapping[str, float | None]
    latencies: Mapping[str, Mapping[str, float | None]]


def read_run(path: Path) -> Run:
    """Read a simulated or a measured run.

    It is an output folder of `python -m simulator`, its summary.json, or a result of `vllm bench serve`.

    Raises:
        ReadError: The path is none of these.
    """
    file = path / "summary.json" if path.is_dir() else path
    try:
        content = read_json(file, allow_nan=True)  # vLLM writes NaN for what it did not measure
    except OSError as error:
        raise ReadError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise ReadError(f"cannot read {file}: {error}") from error
    if isinstance(content, dict):
        name = path.name if path.is_dir() or path.name != "summary.json" else path.parent.name
        try:
            if "request_throughput" in content:
                return _vllm(path.stem, content)
            if "ttft_s" in content and "scheduling_delay_s" in content:
                return _simulated(name, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else error
            raise ReadError(f"{file} is not valid: {reason}") from error
    raise ReadError(f"{file} is neither a summary.json of the simulator nor a result of vllm bench serve")


def _simulated(name: str, content: Mapping[str, Any]) -> Run:
    return Run(
        name=name,
        measured=False,
        num_finished=int(content["num_finished"]),
        throughputs={throughput: _number(content[throughput]) for throughput in THROUGHPUTS},
        latencies={
            latency: {statistic: _number(content[latency][statistic]) for statistic in STATISTICS}
            for latency in LATENCIES
        },
    )


def _vllm(name: str, content: Mapping[str, Any]) -> Run:
    """Read a result of `vllm bench serve`.

    Latencies come from a detailed result (--save-detailed), else from its statistics.
    """
    latencies: dict[str, Mapping[str, float | None]] = {"scheduling_delay_s": dict.fromkeys(STATISTICS)}
    samples = _vllm_samples(content)
    for latency, vllm_name in _VLLM_LATENCIES.items():
        if latency in samples:
            latencies[latency] = Distribution(samples[latency]).summary()
            continue
        times_ms = {statistic: content.get(f"{statistic}_{vllm_name}_ms") for statistic in STATISTICS}
        times_ms["p50"] = content.get(f"median_{vllm_name}_ms", times_ms["p50"])
        latencies[latency] = {
            statistic: None if value is None else float(value) / 1e3 for statistic, value in times_ms.items()
        }
    return Run(
        name=name,
        measured=True,
        num_finished=int(content["completed"]),
        throughputs={
            throughput: _number(content.get(vllm_name)) for throughput, vllm_name in _VLLM_THROUGHPUTS.items()
        },
        latencies=latencies,
    )


def _vllm_samples(content: Mapping[str, Any]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the latency samples of a detailed result in seconds.

    Empty for other results.
    """
    if any(name not in content for name in ("ttfts", "itls", "output_lens")):
        return {}
    rows = list(zip(content["ttfts"], content["itls"], content["output_lens"], strict=True))
    errors = content.get("errors") or [""] * len(rows)
    # A failed request has a TTFT of 0 s and no output.
    rows = [row for row, error in zip(rows, errors, strict=True) if not error and row[2] > 0]
    ttfts = np.array([row[0] for row in rows], dtype=np.float64)
    gaps = [np.array(row[1], dtype=np.float64) for row in rows]
    spans = np.array([request_gaps.sum() for request_gaps in gaps])
    # Several tokens may arrive in one chunk, so there may be fewer gaps than tokens.
    counts = np.array([row[2] - 1 for row in rows])
    has_tpot = counts > 0
    return {
        "ttft_s": ttfts,
        "tbt_s": np.concatenate([np.zeros(0), *gaps]),
        "tpot_s": spans[has_tpot] / counts[has_tpot],
        "e2e_s": ttfts + spans,
    }


def _number(value: Any) -> float | None:
    if value is not None and (not isinstance(value, int | float) or value < 0):
        raise ValueError(f"{value!r} is not a time, count or rate")
    return None if value is None or math.isnan(value) else float(value)
