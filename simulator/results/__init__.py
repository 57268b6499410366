"""Result of a run: arrays by request and iteration, and their metrics."""

from simulator.results.bottlenecks import Bottleneck, bottlenecks, utilisation
from simulator.results.clients import client_figures, client_warnings
from simulator.results.faults import FaultResult
from simulator.results.formatting import (
    bounds_text,
    count,
    deployment_label,
    dollars,
    duration,
    figure,
    milliseconds,
    objective_label,
    objective_text,
    objective_value,
    share,
    slo_text,
    slo_word,
)
from simulator.results.latency import LATENCIES, PERCENTILES, STATISTICS, Distribution, percentile_of, rank
from simulator.results.merge import PartOfResult, merged
from simulator.results.objectives import (
    ALLOWED,
    GOODPUT,
    Objective,
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
from simulator.results.run_tables import (
    figures_table,
    latencies_table,
    latency_column,
    parts_tables,
)
from simulator.results.search_tables import PricedPoint, capacity_facts, deployments_table, jobs_table, trials_table
from simulator.results.slo import SLO, objectives_of
from simulator.results.status import FINISHED, IGNORED, LOST, NOT_ARRIVED, STATUS_NAMES, STUCK, UNFINISHED
from simulator.results.summary import STAGE_SHARES
from simulator.results.tables import Cell, Column, Table, flat, side_by_side, table_of
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
    "Cell",
    "Column",
    "Distribution",
    "FaultResult",
    "MetricOptions",
    "Objective",
    "PartOfResult",
    "PricedPoint",
    "ReplicaResult",
    "RequestEventArrays",
    "Result",
    "Steps",
    "Table",
    "Warning",
    "after_idle",
    "blocks_used",
    "bottlenecks",
    "bounds_text",
    "cached_tokens",
    "capacity_facts",
    "client_figures",
    "client_warnings",
    "count",
    "deployment_label",
    "deployments_table",
    "dollars",
    "duration",
    "evicted_blocks",
    "figure",
    "figures_table",
    "flat",
    "is_cut_off",
    "jobs_table",
    "kv_use",
    "latencies_table",
    "latency_column",
    "merged",
    "milliseconds",
    "num_running",
    "objective_label",
    "objective_text",
    "objective_value",
    "objectives_of",
    "output_tokens",
    "parts_tables",
    "percentile_of",
    "prefix_cache_hits",
    "queue_length",
    "rank",
    "share",
    "side_by_side",
    "slo_text",
    "slo_word",
    "stalls",
    "table_of",
    "time_span",
    "trials_table",
    "utilisation",
]
