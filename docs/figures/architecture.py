"""Draws architecture.svg and architecture.png: `python docs/figures/architecture.py`."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from traces.shared.figure_style import COLOURS, grid, save, styled

FOLDER = Path(__file__).parent
BLUE, RED, SKY, BLACK, GOLD, GREEN = COLOURS
# Name, text, left, bottom, width, height, colour of the edge.
BOXES = (
    ("traces", "traces/\nreaders, generators,\narrival processes", 0.1, 4.6, 2.2, 1.0, GREEN),
    ("profiling", "profiling/\nmeasures operators on a GPU,\nfits them, says how good", 0.1, 1.9, 2.2, 1.0, GREEN),
    ("gateway", "gateway\nasks the router\nwhich replica", 3.0, 4.6, 1.7, 1.0, BLUE),
    ("times", "iteration_time\nkernels + messages\n+ host of a batch", 3.0, 1.9, 1.7, 1.0, BLUE),
    ("start", "replica: start\ntakes KV blocks,\nevicts", 5.7, 5.1, 1.9, 1.0, BLUE),
    ("scheduler", "scheduler: decide\nreads the replica,\nreturns a batch", 8.2, 5.1, 1.9, 1.0, RED),
    ("spend", "engine: spend\nSimPy clock,\npipeline stages", 5.7, 3.5, 1.9, 1.0, BLUE),
    ("finish", "replica: finish\nadvances, frees,\ncompletes", 8.2, 3.5, 1.9, 1.0, BLUE),
    ("log", "log\niterations and events\nas arrays", 8.2, 1.9, 1.9, 1.0, BLUE),
    ("metrics", "metrics\nexact latencies,\nthroughput, cost", 10.9, 1.9, 2.4, 1.0, BLUE),
    ("files", "files\nsummary.json, requests.csv,\nplots, report, timeline", 10.9, 3.5, 2.4, 1.0, BLACK),
    ("commands", "commands\ncapacity, search, sweeps,\ntoken_budget, reproduce", 10.9, 5.1, 2.4, 1.0, GOLD),
)
# From, side of it, to, side of it.
ARROWS = (
    ("traces", "right", "gateway", "left"),
    ("profiling", "right", "times", "left"),
    ("times", "right", "spend", "bottom"),
    ("scheduler", "left", "start", "right"),
    ("start", "bottom", "spend", "top"),
    ("spend", "right", "finish", "left"),
    ("finish", "top", "scheduler", "bottom"),
    ("finish", "bottom", "log", "top"),
    ("log", "right", "metrics", "left"),
    ("metrics", "top", "files", "bottom"),
    ("files", "top", "commands", "bottom"),
)


@styled
def main() -> None:
    """Draw it."""
    figure, (axes,) = grid(1, 1, width=11.5, height=4.9)
    axes.set(xlim=(0, 13.4), ylim=(1.7, 6.75), aspect="equal")
    axes.axis("off")
    axes.add_patch(
        FancyBboxPatch((5.3, 3.25), 5.1, 3.35, boxstyle="round,pad=0.02,rounding_size=0.15", fc="#F3F5F8", ec="#B8C0CC")
    )
    axes.text(5.45, 6.35, "each replica, again and again", fontsize=8, color="#444444")
    places = {}
    for name, text, left, bottom, width, height, colour in BOXES:
        _box(axes, text, left, bottom, width, height, colour)
        places[name] = {
            "left": (left, bottom + height / 2),
            "right": (left + width, bottom + height / 2),
            "top": (left + width / 2, bottom + height),
            "bottom": (left + width / 2, bottom),
        }
    for origin, out, target, into in ARROWS:
        bend = "angle,angleA=0,angleB=90,rad=6" if out == "right" and into == "bottom" else "arc3"
        _arrow(axes, places[origin][out], places[target][into], bend)
    _arrow(axes, places["gateway"]["right"], (5.3, 5.1), "arc3")
    _arrow(axes, places["commands"]["left"], (10.42, 5.6), "arc3")
    axes.text(10.66, 5.7, "run", fontsize=7.5, ha="center")
    for file_format in ("svg", "png"):
        save(figure, FOLDER / f"architecture.{file_format}")


def _box(axes: Axes, text: str, left: float, bottom: float, width: float, height: float, colour: str) -> None:
    shape = "round,pad=0.0,rounding_size=0.1"
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle=shape, fc="white", ec=colour, linewidth=1.6))
    head, _, rest = text.partition("\n")
    axes.text(left + width / 2, bottom + height - 0.12, head, ha="center", va="top", fontsize=8.5, weight="bold")
    axes.text(left + width / 2, bottom + height - 0.42, rest, ha="center", va="top", fontsize=7.5, linespacing=1.25)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#333333", "connectionstyle": style})


if __name__ == "__main__":
    main()
