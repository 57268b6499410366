"""Picture of runs side by side."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from simulator.compare.runs import LATENCIES, Run
from traces.whole_files import write_whole

STATISTICS = ("mean", "p50", "p90", "p99")
COLOURS = ("#2f5f9e", "#e08e2b", "#4e9a52", "#c0504d", "#7d5ba6", "#8c6d46", "#d178b0", "#777777")
DPI = 110


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the statistics of each latency that a run knows; measured runs are hatched.

    Args:
        runs: At least one.
        path: PNG file.
    """
    shown = [
        one for one in LATENCIES if any(run.latencies[one][which] is not None for run in runs for which in STATISTICS)
    ]
    columns = min(3, max(1, len(shown)))
    lines = -(-max(1, len(shown)) // columns)
    figure = Figure(figsize=(3.9 * columns, 3.0 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for unused in panels[len(shown) :]:
        unused.set_visible(False)
    width = 0.8 / len(runs)
    for axes, latency in zip(panels, shown, strict=False):
        for place, run in enumerate(runs):
            heights = [run.latencies[latency][which] or 0.0 for which in STATISTICS]
            x = [number - 0.4 + (place + 0.5) * width for number in range(len(STATISTICS))]
            hatch = "//" if run.measured else None
            colour = COLOURS[place % len(COLOURS)]
            axes.bar(x, heights, width, color=colour, hatch=hatch, edgecolor="white", label=run.name)
        axes.set_xticks(range(len(STATISTICS)), STATISTICS)
        axes.set_title(latency.removesuffix("_s").replace("_", " ") + ", s", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(runs)), frameon=False, fontsize=8)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    write_whole(path, content.getvalue())
