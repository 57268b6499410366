"""The result of a simulation: arrays by request and iteration, and every figure computed from them."""

from simulator.results.bottlenecks import Finding, limits, utilisation
from simulator.results.clients import client_figures, client_warnings
from simulator.results.faults import FaultResult
from simulator.results.formatting import deployment_label, duration, figure, share
from simulator.results.latency import LATENCIES, PERCENTILES, SUMMARY, Distribution, percentile_of, rank
from simulator.results.over_time import (
    Steps,
    after_idle,
    blocks_used,
    evicted_blocks,
    found_tokens,
    kv_use,
    num_running,
    output_tokens,
    queue_length,
    stalls,
    time_span,
)
from simulator.results.prefix_cache import CACHED_TOKENS, cached_tokens
from simulator.results.replica import ReplicaResult, RequestEventArrays
from simulator.results.result import BATCH_COLUMNS, REQUEST_COLUMNS, MetricOptions, Result
from simulator.results.slo import SLO, Objective, of_clients
from simulator.results.status import FINISHED, IGNORED, LOST, NOT_ARRIVED, STATUS_NAMES, STUCK, UNFINISHED
from simulator.results.summary import STAGE_SHARES

__all__ = [
    "BATCH_COLUMNS",
    "CACHED_TOKENS",
    "FINISHED",
    "IGNORED",
    "LATENCIES",
    "LOST",
    "NOT_ARRIVED",
    "PERCENTILES",
    "REQUEST_COLUMNS",
    "SLO",
    "STAGE_SHARES",
    "STATUS_NAMES",
    "STUCK",
    "SUMMARY",
    "UNFINISHED",
    "Distribution",
    "FaultResult",
    "Finding",
    "MetricOptions",
    "Objective",
    "ReplicaResult",
    "RequestEventArrays",
    "Result",
    "Steps",
    "after_idle",
    "blocks_used",
    "cached_tokens",
    "client_figures",
    "client_warnings",
    "deployment_label",
    "duration",
    "evicted_blocks",
    "figure",
    "found_tokens",
    "kv_use",
    "limits",
    "num_running",
    "of_clients",
    "output_tokens",
    "percentile_of",
    "queue_length",
    "rank",
    "share",
    "stalls",
    "time_span",
    "utilisation",
]
