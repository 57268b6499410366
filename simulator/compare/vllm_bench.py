"""Results of `vllm bench serve --save-result`, with times in milliseconds or seconds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.compare.run import Run, Statistics, measured_run, number, without_gaps_of_pieces
from simulator.results import STATISTICS, Distribution

NAME = "a result of vllm bench serve"
# Its inter-token latency is our TBT; SGLang's benchmark has another name for the last one.
_LATENCIES = {"ttft_s": ("ttft",), "tbt_s": ("itl",), "tpot_s": ("tpot",), "e2e_s": ("e2el", "e2e_latency")}
_THROUGHPUTS = {"requests_per_s": "request_throughput", "output_tokens_per_s": "output_throughput"}
_WORDS = {"p50": ("median", "p50")}


def is_result(content: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a result of `vllm bench serve`."""
    return isinstance(content.get("request_throughput"), int | float) or "median_ttft" in content


def read(content: Mapping[str, Any]) -> Run:
    """Return the metrics, without a name.

    Latencies come from a detailed result (--save-detailed), else from its statistics.
    """
    samples = _samples(content)
    latencies = {latency: _statistics(content, names) for latency, names in _LATENCIES.items()}
    latencies |= {latency: Distribution(values).summary() for latency, values in samples.items()}
    throughputs = {name: content.get(theirs) for name, theirs in _THROUGHPUTS.items()}
    has_unit = any(f"{key}_ms" in content for key in _keys())
    in_seconds = not has_unit and any(key in content for key in _keys())
    notes = ("its times are stated without a unit and taken as seconds",) if in_seconds else ()
    run = measured_run(content.get("completed"), throughputs, latencies, notes)
    run = replace(run, good_requests_per_s=number(content.get("request_goodput", content.get("request_goodput:"))))
    if not samples:
        return without_gaps_of_pieces(run)
    num_after_first = sum(length - 1 for _, _, length in _rows(content))
    return without_gaps_of_pieces(run, len(samples["tbt_s"]), num_after_first)


def _keys() -> Iterator[str]:
    """Yield the keys of all statistics, without their unit."""
    for names in _LATENCIES.values():
        for statistic in STATISTICS:
            yield from _keys_of(statistic, names)


def _keys_of(statistic: str, names: Sequence[str]) -> list[str]:
    return [f"{word}_{name}" for word in _WORDS.get(statistic, (statistic,)) for name in names]


def _statistics(content: Mapping[str, Any], names: Sequence[str]) -> Statistics:
    """Return the statistics of a latency in seconds.

    Without a unit in their keys, they are in seconds already.
    """
    values: dict[str, float | None] = {}
    for statistic in STATISTICS:
        keys = _keys_of(statistic, names)
        times_s = [number(content.get(key)) for key in keys]
        times_ms = [number(content.get(f"{key}_ms")) for key in keys]
        known = [*times_s, *(None if time_ms is None else time_ms / 1e3 for time_ms in times_ms)]
        values[statistic] = next((time_s for time_s in known if time_s is not None), None)
    return values


def _rows(content: Mapping[str, Any]) -> list[tuple[float, list[float], int]]:
    """Return TTFT, gaps and output length of each request.

    Empty for other results.
    """
    if any(name not in content for name in ("ttfts", "itls", "output_lens")):
        return []
    rows = list(zip(content["ttfts"], content["itls"], content["output_lens"], strict=True))
    errors = content.get("errors") or [""] * len(rows)
    # A failed request has a TTFT of 0 s and no output.
    return [row for row, error in zip(rows, errors, strict=True) if not error and row[2] > 0]


def _samples(content: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Return the latency samples of a detailed result in seconds.

    Empty for other results.
    """
    rows = _rows(content)
    if not rows:
        return {}
    ttfts = np.array([ttft for ttft, _, _ in rows], dtype=np.float64)
    gaps = [np.array(request_gaps, dtype=np.float64) for _, request_gaps, _ in rows]
    spans = np.array([request_gaps.sum() for request_gaps in gaps])
    counts = np.array([length - 1 for _, _, length in rows])
    has_tpot = counts > 0
    return {
        "ttft_s": ttfts,
        "tbt_s": np.concatenate([np.zeros(0), *gaps]),
        "tpot_s": spans[has_tpot] / counts[has_tpot],
        "e2e_s": ttfts + spans,
    }
