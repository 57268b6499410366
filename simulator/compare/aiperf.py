"""Summaries of NVIDIA AIPerf, profile_export_aiperf.json."""

from collections.abc import Mapping
from typing import Any

from simulator.compare.run import Run, Statistics, measured_run, number
from simulator.results import STATISTICS

NAME = "a profile_export_aiperf.json of AIPerf"
# Its inter-token latency is one number per request: our TPOT.
_LATENCIES = {"ttft_s": "time_to_first_token", "tpot_s": "inter_token_latency", "e2e_s": "request_latency"}
_THROUGHPUTS = {"requests_per_s": "request_throughput", "output_tokens_per_s": "output_token_throughput"}
_UNITS_PER_SECOND = {"s": 1.0, "sec": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def is_result(content: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a summary of AIPerf."""
    return any(_metric(content, name) for name in ("request_throughput", "request_latency"))


def read(content: Mapping[str, Any]) -> Run:
    """Return the metrics, without a name."""
    throughputs = {name: _metric(content, theirs).get("avg") for name, theirs in _THROUGHPUTS.items()}
    latencies = {name: _statistics(theirs, _metric(content, theirs)) for name, theirs in _LATENCIES.items()}
    notes = ("AIPerf's inter_token_latency is one number per request: it is TPOT here",)
    return measured_run(_metric(content, "request_count").get("avg"), throughputs, latencies, notes)


def _metric(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a metric; empty if there is none."""
    metrics = content.get("metrics", content)
    metric = metrics.get(name) if isinstance(metrics, Mapping) else None
    return metric if isinstance(metric, Mapping) and ("avg" in metric or "unit" in metric) else {}


def _statistics(name: str, metric: Mapping[str, Any]) -> Statistics:
    unit = metric.get("unit", "ms")
    if unit not in _UNITS_PER_SECOND:
        raise ValueError(f"{name} has the unit {unit!r}; known are {', '.join(_UNITS_PER_SECOND)}")
    values = {statistic: number(metric.get("avg" if statistic == "mean" else statistic)) for statistic in STATISTICS}
    return {name: None if value is None else value / _UNITS_PER_SECOND[unit] for name, value in values.items()}
