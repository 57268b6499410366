"""Plots of runs, sweeps and batches.

Each function returns a matplotlib figure; `save` writes it.
"""

from simulator.plot.axis_labels import axis_of, statistic_label
from simulator.plot.batches import batch_composition, neighbours, typical_iteration
from simulator.plot.cost import cost_against_latency
from simulator.plot.latency import latency_cdfs
from simulator.plot.memory import kv_and_queue
from simulator.plot.pipeline import pipeline_timeline
from simulator.plot.prefix_cache import prefix_cache
from simulator.plot.roofline import roofline
from simulator.plot.stalls import generation_stalls, longest_stall
from simulator.plot.sweep_files import (
    Job,
    capacity_curves,
    load_series,
    name_of,
    overloaded_loads,
    priced_points,
    read_sweep,
    trial_series,
)
from simulator.plot.sweeps import capacities, capacity_against_slo, knee, latency_against_load
from simulator.plot.titles import set_search_title
from traces.shared.figure_style import save

__all__ = [
    "Job",
    "axis_of",
    "batch_composition",
    "capacities",
    "capacity_against_slo",
    "capacity_curves",
    "cost_against_latency",
    "generation_stalls",
    "knee",
    "kv_and_queue",
    "latency_against_load",
    "latency_cdfs",
    "load_series",
    "longest_stall",
    "name_of",
    "neighbours",
    "overloaded_loads",
    "pipeline_timeline",
    "prefix_cache",
    "priced_points",
    "read_sweep",
    "roofline",
    "save",
    "set_search_title",
    "statistic_label",
    "trial_series",
    "typical_iteration",
]
