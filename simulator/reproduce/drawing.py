"""Plots like the paper's figures.

Published numbers are pale, with the simulated ones next to them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from simulator.reproduce import published as paper
from simulator.reproduce.figures import Row
from traces.shared.figure_style import COLOURS as SERIES
from traces.shared.figure_style import grid, make_logarithmic, save, styled

COLOURS = {"orca": SERIES[2], "vllm": SERIES[1], "sarathi": SERIES[0]}
PALE = 0.35


def draw(figure: str, rows: Sequence[Row], folder: Path) -> Path:
    """Draw one figure or table and return the path of its file."""
    path = folder / f"{figure.replace(' ', '_') if figure.startswith('table') else f'figure_{figure}'}.png"
    save(picture(figure, rows), path)
    return path


@styled
def picture(figure: str, rows: Sequence[Row]) -> Figure:
    """Draw one figure or table.

    Args:
        figure: One of `figures.FIGURES`.
        rows: Rows of this figure; those of other figures are ignored.
    """
    drawn = [row for row in rows if row.figure == figure and not row.metric.startswith("speedup")]
    painters: dict[str, Callable[[Sequence[Row]], Figure]] = {
        "10": _capacities,
        "11": _capacities,
        "12": _figure_12,
        "13": _figure_13,
        "6": _figure_6,
    }
    return painters.get(figure, _pairs)(drawn)


def _bars(axes: Any, groups: Sequence[str], series: Sequence[tuple[str, str, Sequence[Row]]], unit: str) -> None:
    """Draw groups of bars, a published and a simulated one per series.

    The published value is pale, the simulated one in full colour.
    """
    width = 0.8 / (2 * len(series))
    for index, (name, colour, rows) in enumerate(series):
        for shift, (attribute, alpha, label) in enumerate((("paper", PALE, "paper"), ("simulated", 1.0, "simulated"))):
            x = [number - 0.4 + (2 * index + shift + 0.5) * width for number in range(len(groups))]
            heights = [getattr(row, attribute) for row in rows]
            bars = axes.bar(x, heights, width, color=colour, alpha=alpha, label=f"{name}, {label}")
            axes.bar_label(bars, [f"{height:.3g}" for height in heights], fontsize=6, rotation=90, padding=2)
    axes.set_xticks(range(len(groups)), groups, fontsize=8)
    axes.set_ylabel(unit)
    axes.margins(y=0.18)
    axes.grid(visible=False, axis="x")


def _capacities(rows: Sequence[Row]) -> Figure:
    models = list(dict.fromkeys(row.model for row in rows))
    traces = (paper.CHAT, paper.ARXIV)
    figure, panels = grid(len(traces), len(models), 5.2, 2.9)
    for number, trace in enumerate(traces):
        for axes, model in zip(panels[number * len(models) :], models, strict=False):
            series = []
            for scheduler, colour in COLOURS.items():
                cells = [row for row in rows if (row.model, row.trace, row.scheduler) == (model, trace, scheduler)]
                series.append((scheduler, colour, sorted(cells, key=lambda row: paper.SLOS.index(row.slo))))
            _bars(axes, [f"{slo} SLO" for slo in paper.SLOS], series, "capacity, requests/s")
            axes.set_title(f"{model}, {trace}", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=6, loc="outside upper center")
    return figure


def _figure_12(rows: Sequence[Row]) -> Figure:
    colours = dict(zip(paper.FIGURE_12_POLICIES, (SERIES[2], SERIES[1], SERIES[3], SERIES[0], SERIES[4]), strict=True))
    figure, panels = grid(1, len(paper.FIGURE_12), 5.2, 3.6)
    for axes, (model, by_bound) in zip(panels, paper.FIGURE_12.items(), strict=True):
        for policy, colour in colours.items():
            cells = [row for row in rows if row.model == model and row.scheduler == policy]
            axes.plot(list(by_bound), [row.paper for row in cells], "o--", color=colour, alpha=0.5, markersize=4)
            axes.plot(list(by_bound), [row.simulated for row in cells], "s-", color=colour, label=policy, markersize=4)
        axes.set_title(f"{model}, {paper.CHAT} (dashed: paper)", fontsize=9)
        axes.set_xlabel("bound on P99 TBT, s")
        axes.set_ylabel("capacity, requests/s")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7)
    return figure


def _figure_13(rows: Sequence[Row]) -> Figure:
    figure, (left, right) = grid(1, 2, 5.2, 3.6)
    for layout, colour in (("TP8", SERIES[1]), ("TP4-PP2", SERIES[0])):
        cells = [row for row in rows if row.metric == "tbt_p50_s" and row.scheduler.startswith(layout)]
        left.plot(paper.FIGURE_13_BATCHES, [row.paper for row in cells], "o--", color=colour, alpha=0.5)
        left.plot(paper.FIGURE_13_BATCHES, [row.simulated for row in cells], "s-", color=colour, label=layout)
    left.set_xscale("log", base=2)
    left.set_xticks(paper.FIGURE_13_BATCHES, [str(batch) for batch in paper.FIGURE_13_BATCHES])
    left.set(xlabel="batch", ylabel="median TBT, s", title="Falcon-180B (dashed: paper)")
    left.set_ylim(bottom=0)
    left.legend()
    cells = [row for row in rows if row.metric == "capacity_qps"]
    names = list(dict.fromkeys(row.scheduler for row in cells))
    series = [
        (slo, colour, [row for name in names for row in cells if row.scheduler == name and row.slo == slo])
        for slo, colour in zip(paper.SLOS, (SERIES[0], SERIES[4]), strict=True)
    ]
    _bars(right, names, series, "capacity, requests/s")
    right.legend(fontsize=7)
    return figure


def _figure_6(rows: Sequence[Row]) -> Figure:
    figure, (axes,) = grid(1, 1, 6.0, 3.6)
    tokens = list(paper.FIGURE_6)
    for layout, colour in (("TP2", SERIES[1]), ("TP4", SERIES[0])):
        cells = [row for row in rows if row.scheduler.startswith(layout)]
        axes.plot(tokens, [row.paper for row in cells], "o--", color=colour, alpha=0.5)
        axes.plot(tokens, [row.simulated for row in cells], "s-", color=colour, label=layout)
    make_logarithmic(axes, x=True, y=True)
    powers = [count for count in tokens if count & (count - 1) == 0]
    axes.set_xticks(powers, list(map(str, powers)))
    axes.set(xlabel="tokens", ylabel="linear layers of an iteration, ms", title="LLaMA2-70B on A100 (dashed: paper)")
    axes.legend()
    return figure


def _pairs(rows: Sequence[Row]) -> Figure:
    """Draw paired bars, one panel for each metric, model and trace.

    It can draw any rows.
    """
    panels = list(dict.fromkeys((row.metric, row.model, row.trace) for row in rows))
    figure, all_axes = grid(len(panels), 1, 9.0, 2.6)
    for axes, (metric, model, trace) in zip(all_axes, panels, strict=True):
        cells = [row for row in rows if (row.metric, row.model, row.trace) == (metric, model, trace)]
        names = [row.scheduler.replace(", ", "\n") for row in cells]
        _bars(axes, names, [(metric, SERIES[0], cells)], metric)
        axes.tick_params(axis="x", labelsize=6)
        axes.set_title(", ".join(filter(None, (model, trace, metric))) + " (pale: paper)", fontsize=9)
    return figure
