"""Titles of plots: what they show, and of which runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from simulator.output import deployment_parts, load_parts
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
    set_title(figure, TITLES[kind], common_parts(abouts))
    return figure


def set_search_title(figure: Figure, search: Mapping[str, Any]) -> None:
    """Set the title of a plot of a search.

    It names model and load, because the deployments differ.

    Args:
        figure: The plot.
        search: Content of search.json.
    """
    set_title(figure, TITLES["pareto"], ", ".join([search["config"]["model"]["name"], *load_parts(search)]))


def common_parts(abouts: Sequence[Mapping[str, Any]]) -> str:
    """Return the parts of the title that all runs have.

    What differs is in the names of the series.
    """
    titles = [[*deployment_parts(about), *load_parts(about)] for about in abouts]
    return ", ".join(part for part in (titles[0] if titles else []) if all(part in other for other in titles))
