"""Pictures of runs, sweeps and batches. Each function returns a matplotlib figure; `save` writes it."""

from simulator.plots.batches import batch_composition
from simulator.plots.cost import PricedPoint, cost_against_latency
from simulator.plots.latency import latency_cdfs
from simulator.plots.memory import kv_and_queue
from simulator.plots.pipeline import pipeline_timeline
from simulator.plots.prefix_cache import prefix_cache
from simulator.plots.roofline import roofline
from simulator.plots.stalls import generation_stalls
from simulator.plots.sweeps import capacities, capacity_against_slo, knee, latency_against_load
from traces.figure_style import save

__all__ = [
    "PricedPoint",
    "batch_composition",
    "capacities",
    "capacity_against_slo",
    "cost_against_latency",
    "generation_stalls",
    "knee",
    "kv_and_queue",
    "latency_against_load",
    "latency_cdfs",
    "pipeline_timeline",
    "prefix_cache",
    "roofline",
    "save",
]
