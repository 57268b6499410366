"""Picture of runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from simulator.compare.runs import Run
from simulator.results import LATENCIES
from traces.shared.figure_style import COLOURS, bars, grid, save, styled

STATISTICS = ("mean", "p50", "p90", "p99")


@styled
def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the statistics of each latency that a run knows; measured runs are only hatched.

    Args:
        runs: At least one.
        path: PNG file.
    """
    shown = [
        one for one in LATENCIES if any(run.latencies[one][which] is not None for run in runs for which in STATISTICS)
    ]
    columns = min(3, max(1, len(shown)))
    lines = -(-max(1, len(shown)) // columns)
    figure, panels = grid(lines, columns, width=3.9, height=3.0)
    for unused in panels[len(shown) :]:
        unused.set_visible(False)
    width = 0.8 / len(runs)
    for axes, latency in zip(panels, shown, strict=False):
        for place, run in enumerate(runs):
            heights = [run.latencies[latency][which] or 0.0 for which in STATISTICS]
            x = [number - 0.4 + (place + 0.5) * width for number in range(len(STATISTICS))]
            colour = COLOURS[place % len(COLOURS)]
            look = {"facecolor": "white", "edgecolor": colour, "hatch": "//"} if run.measured else bars(place)
            axes.bar(x, heights, width, label=run.name, **look)
        axes.set_xticks(range(len(STATISTICS)), STATISTICS)
        axes.set_title(latency.removesuffix("_s").replace("_", " ") + ", s", fontsize=10)
        axes.grid(visible=False, axis="x")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(runs)))
    save(figure, path)
