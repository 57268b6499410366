"""Titles of plots: what they show, and of which runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from traces.shared.figure_style import set_title

TITLES = {
    "latency": "Latency distributions (dots: P99)",
    "stalls": "Output tokens over time, with the longest generation stall",
    "memory": "KV cache use and queue length over time",
    "prefixes": "Prefix cache hits and evictions over time",
    "batches": "Batch composition: prompt tokens and decodes of each iteration",
    "pipeline": "Pipeline stages: which batch each computes, and bubbles",
    "roofline": "Roofline of the kernels of typical batches",
    "load": "Latency against load",
    "capacity": "Capacity: the highest load within the SLO",
    "pareto": "Cost against latency of the deployments of a search",
}


def titled(draw: Callable[[], Figure], kind: str, abouts: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a plot of runs and set its title.

    Args:
        draw: Draws it.
        kind: Key of TITLES.
        abouts: What was saved about the runs in it: summary.json or capacity.json.
    """
    figure = draw()
    set_title(figure, TITLES[kind], common_heading([heading(about) for about in abouts]))
    return figure


def set_search_title(figure: Figure, config: Mapping[str, Any]) -> None:
    """Set the title of a plot of a search.

    It names model, trace and load, because the deployments differ.

    Args:
        figure: The plot.
        config: Configuration of the search.
    """
    set_title(figure, TITLES["pareto"], f"{config['model']['name']}, {workload(config)}")


def heading(about: Mapping[str, Any]) -> str:
    """Return what a run is of.

    It names model, devices, layout, policy, trace and load.
    """
    config = about["config"]
    scheduler = config["scheduler"]
    budget = scheduler.get("token_budget") or scheduler.get("max_num_batched_tokens")
    policy = _class_name(scheduler) + (f" with a budget of {budget} tokens" if budget else "")
    return ", ".join([deployment(config), policy, workload(config)])


def deployment(config: Mapping[str, Any]) -> str:
    """Return the part of `heading` about model, devices and layout."""
    model, parallel, cluster = config["model"], config["parallel"], config["cluster"]
    layout = f"{cluster.get('replicas', 1)} x {config['device']['name']} TP{parallel['tp']} PP{parallel['pp']}"
    replicas = "several groups of replicas" if cluster.get("groups") else layout
    return f"{model['name']} in {model['dtype']}, {replicas}"


def workload(config: Mapping[str, Any]) -> str:
    """Return the part of `heading` about trace and load."""
    trace, arrival = config["trace"], config["arrival"]
    count, qps = trace.get("num_requests"), arrival.get("qps")
    parts = [
        f"{_class_name(trace)} trace",
        f"{count:,} requests" if count else "",
        f"{_class_name(arrival)} arrivals",
        f"{qps:g} requests/s" if qps else "",
    ]
    return ", ".join(part for part in parts if part)


def common_heading(headings: Sequence[str]) -> str:
    """Return the parts that all headings have, in their order.

    What differs is in the names of the series.
    """
    shared = headings[0].split(", ") if headings else []
    return ", ".join(part for part in shared if all(part in other.split(", ") for other in headings))


def _class_name(component: Mapping[str, Any]) -> str:
    return str(component.get("_target_", "")).rpartition(".")[2]
