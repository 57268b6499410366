"""Reads runs: of the simulator, and measurements that `vllm bench serve --save-result` wrote."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simulator.results import LATENCIES, SUMMARY, Distribution
from traces.shared.json_file import read_json

THROUGHPUTS = ("requests_per_s", "output_tokens_per_s")
# Names in a result of `vllm bench serve`, in milliseconds; its inter-token latency is our TBT.
_VLLM_LATENCIES = {"ttft_s": "ttft", "tbt_s": "itl", "tpot_s": "tpot", "e2e_s": "e2el"}
_VLLM_THROUGHPUTS = {"requests_per_s": "request_throughput", "output_tokens_per_s": "output_throughput"}


class ReadError(ValueError):
    """A run that cannot be read; the message is one line and names it."""


@dataclass(frozen=True)
class Run:
    """Figures of one run.

    Attributes:
        name: How it is shown.
        measured: Whether it was measured on an engine, not simulated.
        num_finished: Requests that finished.
        throughputs: Values by THROUGHPUTS; None: unknown.
        latencies: Seconds by LATENCIES and statistic (mean, p50, p90, ...); None: unknown.
    """

    name: str
    measured: bool
    num_finished: int
    throughputs: Mapping[str, float | None]
    latencies: Mapping[str, Mapping[str, float | None]]


def read_run(path: Path) -> Run:
    """Read a folder of `python -m simulator`, its summary.json, or a result of `vllm bench serve`.

    Raises:
        ReadError: It is none of these.
    """
    file = path / "summary.json" if path.is_dir() else path
    try:
        content = read_json(file, allow_nan=True)  # vLLM writes NaN for what it has not measured
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
            what = f"it has no {error.args[0]}" if isinstance(error, KeyError) else error
            raise ReadError(f"{file} is not whole: {what}") from error
    raise ReadError(f"{file} is neither a summary.json of the simulator nor a result of vllm bench serve")


def _simulated(name: str, content: Mapping[str, Any]) -> Run:
    return Run(
        name=name,
        measured=False,
        num_finished=int(content["num_finished"]),
        throughputs={one: _number(content[one]) for one in THROUGHPUTS},
        latencies={one: {which: _number(content[one][which]) for which in SUMMARY} for one in LATENCIES},
    )


def _vllm(name: str, content: Mapping[str, Any]) -> Run:
    """Of a detailed result (--save-detailed) the latencies themselves count, else the statistics in it."""
    latencies: dict[str, Mapping[str, float | None]] = {"scheduling_delay_s": dict.fromkeys(SUMMARY)}
    samples = _vllm_samples(content)
    for one, theirs in _VLLM_LATENCIES.items():
        if one in samples:
            latencies[one] = Distribution(samples[one]).summary()
            continue
        found = {which: content.get(f"{which}_{theirs}_ms") for which in SUMMARY}
        found["p50"] = content.get(f"median_{theirs}_ms", found["p50"])
        latencies[one] = {which: None if value is None else float(value) / 1e3 for which, value in found.items()}
    return Run(
        name=name,
        measured=True,
        num_finished=int(content["completed"]),
        throughputs={one: _number(content.get(theirs)) for one, theirs in _VLLM_THROUGHPUTS.items()},
        latencies=latencies,
    )


def _vllm_samples(content: Mapping[str, Any]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the latencies of each request and token, seconds, as far as the result has them."""
    if any(name not in content for name in ("ttfts", "itls", "output_lens")):
        return {}
    rows = list(zip(content["ttfts"], content["itls"], content["output_lens"], strict=True))
    errors = content.get("errors") or [""] * len(rows)
    # A request that failed has a first token after 0 s and no output.
    rows = [row for row, error in zip(rows, errors, strict=True) if not error and row[2] > 0]
    ttfts = np.array([row[0] for row in rows], dtype=np.float64)
    gaps = [np.array(row[1], dtype=np.float64) for row in rows]
    spans = np.array([one.sum() for one in gaps])
    # Several tokens may come in one piece, so gaps are no count of them.
    counts = np.array([row[2] - 1 for row in rows])
    several = counts > 0
    return {
        "ttft_s": ttfts,
        "tbt_s": np.concatenate([np.zeros(0), *gaps]),
        "tpot_s": spans[several] / counts[several],
        "e2e_s": ttfts + spans,
    }


def _number(value: Any) -> float | None:
    if value is not None and (not isinstance(value, int | float) or value < 0):
        raise ValueError(f"{value!r} is no time, count or rate")
    return None if value is None or math.isnan(value) else float(value)
