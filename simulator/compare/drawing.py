"""Figure that compares runs."""

from collections.abc import Sequence
from pathlib import Path

from simulator.compare.run import Run
from simulator.plot import axis_of, save, statistic_label
from simulator.results import LATENCIES
from traces.shared.figure_style import COLOURS, bars, grid, legible, set_title, styled

STATISTICS = ("mean", "p50", "p90", "p99")
_COLUMNS = 3


@styled
def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the statistics of each latency that some run has.

    Bars of measured runs are hatched on white.

    Args:
        runs: At least one run.
        path: PNG file to write.
    """
    shown = [
        latency
        for latency in LATENCIES
        if any(run.latencies[latency][statistic] is not None for run in runs for statistic in STATISTICS)
    ]
    columns = min(_COLUMNS, max(1, len(shown)))
    figure, panels = grid(-(-max(1, len(shown)) // columns), columns, height=2.3)
    width = 0.8 / len(runs)
    for axes, latency in zip(panels, shown, strict=False):
        label, unit_s = axis_of(latency)
        for index, run in enumerate(runs):
            heights = [(run.latencies[latency][statistic] or 0.0) / unit_s for statistic in STATISTICS]
            x = [group - 0.4 + (index + 0.5) * width for group in range(len(STATISTICS))]
            colour = COLOURS[index % len(COLOURS)]
            style = {"facecolor": "white", "edgecolor": colour, "hatch": "//"} if run.measured else bars(index)
            name = f"{legible(run.name)}, {'measured' if run.measured else 'simulated'}"
            axes.bar(x, heights, width, label=name, **style)
        axes.set_xticks(range(len(STATISTICS)), list(map(statistic_label, STATISTICS)))
        axes.set_ylabel(label)
        axes.grid(visible=False, axis="x")
    for unused in panels[len(shown) :]:
        unused.remove()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=min(2, len(runs)))
    set_title(figure, f"Latencies of {len(runs)} runs" if len(runs) > 1 else "Latencies of one run")
    save(figure, path)
