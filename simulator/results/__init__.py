"""Result of a run: arrays by request and iteration, and their metrics."""

from simulator.results.bottlenecks import Bottleneck, bottlenecks, utilisation
from simulator.results.clients import client_figures, client_warnings
from simulator.results.faults import FaultResult
from simulator.results.formatting import (
    deployment_label,
    duration,
    figure,
    milliseconds,
    objective_label,
    objective_text,
    objective_value,
    share,
    slo_word,
)
from simulator.results.latency import LATENCIES, PERCENTILES, STATISTICS, Distribution, percentile_of, rank
from simulator.results.objectives import (
    ALLOWED,
    GOODPUT,
    Goodput,
    GoodputObjective,
    Objective,
    RequestBound,
    is_cut_off,
)
from simulator.results.over_time import (
    Steps,
    after_idle,
    blocks_used,
    evicted_blocks,
    kv_use,
    num_running,
    output_tokens,
    prefix_cache_hits,
    queue_length,
    stalls,
    time_span,
)
from simulator.results.prefix_cache import CACHED_TOKENS, cached_tokens
from simulator.results.replica import ReplicaResult, RequestEventArrays
from simulator.results.result import BATCH_COLUMNS, REQUEST_COLUMNS, MetricOptions, Result
from simulator.results.slo import SLO, objectives_of
from simulator.results.status import FINISHED, IGNORED, LOST, NOT_ARRIVED, STATUS_NAMES, STUCK, UNFINISHED
from simulator.results.summary import STAGE_SHARES
from traces.shared.warnings import Warning

__all__ = [
    "ALLOWED",
    "BATCH_COLUMNS",
    "CACHED_TOKENS",
    "FINISHED",
    "GOODPUT",
    "IGNORED",
    "LATENCIES",
    "LOST",
    "NOT_ARRIVED",
    "PERCENTILES",
    "REQUEST_COLUMNS",
    "SLO",
    "STAGE_SHARES",
    "STATISTICS",
    "STATUS_NAMES",
    "STUCK",
    "UNFINISHED",
    "Bottleneck",
    "Distribution",
    "FaultResult",
    "Goodput",
    "GoodputObjective",
    "MetricOptions",
    "Objective",
    "ReplicaResult",
    "RequestBound",
    "RequestEventArrays",
    "Result",
    "Steps",
    "Warning",
    "after_idle",
    "blocks_used",
    "bottlenecks",
    "cached_tokens",
    "client_figures",
    "client_warnings",
    "deployment_label",
    "duration",
    "evicted_blocks",
    "figure",
    "is_cut_off",
    "kv_use",
    "milliseconds",
    "num_running",
    "objective_label",
    "objective_text",
    "objective_value",
    "objectives_of",
    "output_tokens",
    "percentile_of",
    "prefix_cache_hits",
    "queue_length",
    "rank",
    "share",
    "slo_word",
    "stalls",
    "time_span",
    "utilisation",
]
