"""Plots of a report, as inline SVG."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from markupsafe import escape
from matplotlib.figure import Figure

from simulator import plot
from simulator.results import LATENCIES, Result
from traces.shared.figure_style import rendered

# Each SVG numbers its groups from the start, so their ids clash in one page; nothing refers to them.
_GROUP_ID = re.compile(r"<g id=\"[^\"]*\"")
_SIZE = re.compile(r" (?:width|height)=\"[^\"]*\"")

_TITLES = {
    "batches": "Batch composition",
    "pipeline": "Pipeline stages and bubbles",
    "roofline": "Roofline of typical batches",
}


@dataclass(frozen=True)
class Picture:
    """A plot in a report.

    Attributes:
        title: Caption.
        svg: SVG element; empty: it could not be drawn.
        note: Reason why it could not be drawn.
        wide: Whether it takes the full width of the page.
    """

    title: str
    svg: str
    note: str = ""
    wide: bool = False


def pictures(runs: Mapping[str, tuple[Result, Mapping[str, object]]]) -> Iterator[Picture]:
    """Yield the plots of a report.

    Those of all runs together come first, then those of each run.

    Args:
        runs: Result and summary by name.
    """
    results = {name: result for name, (result, _) in runs.items()}
    for metric in ("ttft_s", "tbt_s", "e2e_s", "scheduling_delay_s"):
        title = LATENCIES[metric].capitalize()
        yield _picture(title, partial(plot.latency_cdfs, results, [metric]))
    if not any(len(replica.logged.end_s) for result in results.values() for replica in result.replicas):
        return
    yield _picture("Generation stalls: output tokens over time", partial(plot.generation_stalls, results), wide=True)
    yield _picture("KV cache usage and queue over time", partial(plot.kv_and_queue, results), wide=True)
    caching = {name: result for name, result in results.items() if result.summary["prefix_cache"] is not None}
    if caching:
        yield _picture("Prefix cache over time", partial(plot.prefix_cache, caching), wide=True)
    for name, (result, summary) in runs.items():
        run_name = f": {name}" if len(runs) > 1 else ""
        for kind, draw in plot.pictures_of_run(result, summary):
            yield _picture(f"{_TITLES[kind]}{run_name}", draw, wide=True)


def _picture(title: str, draw: Callable[[], Figure], wide: bool = False) -> Picture:
    try:
        figure = draw()
    except ValueError as error:
        return Picture(title, "", f"left out: {error}", wide)
    return Picture(title, as_svg(figure, title), wide=wide)


def as_svg(figure: Figure, title: str) -> str:
    """Return a figure as an inline SVG element.

    It scales to the width of its container.
    """
    text = rendered(figure, "svg").decode()
    head, _, rest = text[text.index("<svg") :].partition(">")
    label = f'<svg role="img" aria-label="{escape(title)}" '
    return f"{_SIZE.sub('', head).replace('<svg ', label, 1)}>{_GROUP_ID.sub('<g', rest)}"
