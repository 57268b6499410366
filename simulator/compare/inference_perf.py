"""Reports of kubernetes-sigs/inference-perf: of a stage, or the summary of all."""

from collections.abc import Mapping
from typing import Any

from simulator.compare.run import Run, measured_run, number, without_gaps_of_pieces
from simulator.results import STATISTICS

NAME = "a stage or summary of inference-perf (*_lifecycle_metrics.json)"
_LATENCIES = {
    "ttft_s": "time_to_first_token",
    "tbt_s": "inter_token_latency",
    "tpot_s": "time_per_output_token",
    "e2e_s": "request_latency",
}
_THROUGHPUTS = {"requests_per_s": "requests_per_sec", "output_tokens_per_s": "output_tokens_per_sec"}


def is_result(content: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a report of inference-perf."""
    return isinstance(content.get("successes"), Mapping) and "load_summary" in content


def read(content: Mapping[str, Any]) -> Run:
    """Return the metrics, without a name; its latencies are in seconds."""
    successes = content["successes"]
    theirs, rates = successes.get("latency") or {}, successes.get("throughput") or {}
    latencies = {}
    for latency, name in _LATENCIES.items():
        values = theirs.get(name) or {}
        latencies[latency] = {
            statistic: number(values.get("median" if statistic == "p50" else statistic)) for statistic in STATISTICS
        }
    throughputs = {throughput: rates.get(name) for throughput, name in _THROUGHPUTS.items()}
    return without_gaps_of_pieces(measured_run(successes.get("count"), throughputs, latencies))
