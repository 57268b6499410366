"""Figure that compares runs."""

from collections.abc import Sequence
from pathlib import Path

from simulator.compare.run import Run
from simulator.results import LATENCIES
from traces.shared.figure_style import COLOURS, bars, grid, save, styled

STATISTICS = ("mean", "p50", "p90", "p99")


@styled
def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the statistics of each latency that some run has.

    Bars of measured runs are hatched.

    Args:
        runs: At least one run.
        path: PNG file to write.
    """
    shown = [
        latency
        for latency in LATENCIES
        if any(run.latencies[latency][statistic] is not None for run in runs for statistic in STATISTICS)
    ]
    columns = min(3, max(1, len(shown)))
    rows = -(-max(1, len(shown)) // columns)
    figure, panels = grid(rows, columns, width=3.9, height=3.0)
    for unused in panels[len(shown) :]:
        unused.set_visible(False)
    width = 0.8 / len(runs)
    for axes, latency in zip(panels, shown, strict=False):
        for index, run in enumerate(runs):
            heights = [run.latencies[latency][statistic] or 0.0 for statistic in STATISTICS]
            x = [group - 0.4 + (index + 0.5) * width for group in range(len(STATISTICS))]
            colour = COLOURS[index % len(COLOURS)]
            style = {"facecolor": "white", "edgecolor": colour, "hatch": "//"} if run.measured else bars(index)
            axes.bar(x, heights, width, label=run.name, **style)
        axes.set_xticks(range(len(STATISTICS)), STATISTICS)
        axes.set_title(latency.removesuffix("_s").replace("_", " ") + ", s", fontsize=10)
        axes.grid(visible=False, axis="x")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(runs)))
    save(figure, path)
