"""Draws architecture.svg and architecture.png from the imports in the code: `python docs/figures/architecture.py`."""

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent.parent))  # the tests know which imports there are

from tests.test_imports import layers, package_arrows  # noqa: E402
from traces.shared.figure_style import COLOURS, GREY, grid, save, styled  # noqa: E402

BLUE, RED, SKY, BLACK, GOLD, GREEN = COLOURS
# What each package holds, its colour (input, simulation, result, commands) and its column; its layer is computed.
PACKAGES = {
    "traces": ("requests, arrivals,\nreaders, generators", GREEN, 0.8),
    "log": ("iterations,\nrequest events", GREY, 1.9),
    "model": ("model, device, node,\nlayout, KV memory", GREEN, 3.7),
    "kv_cache": ("block hashes,\nprefix cache", BLUE, 0.8),
    "replica": ("queue, decode set,\nKV blocks, batch", BLUE, 1.4),
    "schedulers": ("policies", RED, 0.7),
    "routers": ("policies", RED, 2.0),
    "iteration_time": ("kernels, collectives,\nengine overhead", BLUE, 3.1),
    "engine": ("event loops", BLUE, 0.95),
    "cluster": ("deployment, gateway,\nfaults; collect", BLUE, 1.6),
    "results": ("latencies, SLO,\nover time, bottlenecks", GOLD, 3.7),
    "invariants": ("checked replica,\nlaws of a result", BLUE, 2.65),
    "output": ("files of a run", GOLD, 3.7),
    "config": ("Hydra", BLACK, 2.1),
    "launch": ("vllm serve, manifests", BLACK, 3.1),
    "cli": ("entry point, sweeps", BLACK, 2.1),
    "plot": ("pictures", GOLD, 3.7),
    "capacity": ("load within an SLO", BLACK, 1.6),
    "compare": ("beside measurements", BLACK, 2.66),
    "report": ("one HTML page", GOLD, 3.7),
    "search": ("cheapest deployment", BLACK, 1.62),
    "token_budget": ("budget of Sarathi", BLACK, 0.59),
    "reproduce": ("the paper", BLACK, -0.44),
    "accuracy": ("beside served vLLM", BLACK, 2.65),
}
WIDTH, HEIGHT, ROW, COLUMN = 1.95, 0.72, 1.1, 2.0


@styled
def main() -> None:
    """Draw a row for each layer, and an arrow for each import that no longer path implies."""
    heights = {name.removeprefix("simulator."): layer for name, layer in layers().items()}
    most = max(heights[name] for name in PACKAGES)
    figure, (axes,) = grid(1, 1, height=0.72 * most)
    axes.set(xlim=(-0.95, 3.75 * COLUMN + WIDTH), ylim=(0.0, most * ROW))
    axes.axis("off")
    centres = {
        name: (column * COLUMN + WIDTH / 2, (heights[name] - 1) * ROW) for name, (_, _, column) in PACKAGES.items()
    }
    for name, (centre, bottom) in centres.items():
        _box(axes, name, centre, bottom + 0.05)
    for above, below in _arrows_without_detours():
        _arrow(axes, centres[above], centres[below])
    for file_format in ("svg", "png"):
        save(figure, FOLDER / f"architecture.{file_format}")


def _arrows_without_detours() -> list[tuple[str, str]]:
    """Pairs (importer, imported) that are not joined by a longer path as well."""
    below: dict[str, set[str]] = {}
    for importer, imported in package_arrows():
        first, second = (name.removeprefix("simulator.") for name in (importer, imported))
        if first in PACKAGES and second in PACKAGES:
            below.setdefault(first, set()).add(second)

    def reaches(start: str, goal: str) -> bool:
        return start == goal or any(reaches(name, goal) for name in below.get(start, ()))

    return [
        (above, name)
        for above, names in sorted(below.items())
        for name in sorted(names)
        if not any(reaches(other, name) for other in names - {name})
    ]


def _box(axes: Axes, name: str, centre: float, bottom: float) -> None:
    text, colour, _ = PACKAGES[name]
    shape = "round,pad=0.0,rounding_size=0.08"
    left = centre - WIDTH / 2
    axes.add_patch(FancyBboxPatch((left, bottom), WIDTH, HEIGHT, boxstyle=shape, fc="white", ec=colour, linewidth=1.6))
    axes.text(centre, bottom + HEIGHT - 0.08, name, ha="center", va="top", fontsize=8.5, weight="bold")
    axes.text(centre, bottom + HEIGHT - 0.3, text, ha="center", va="top", fontsize=7.5, linespacing=1.2)


def _arrow(axes: Axes, above: tuple[float, float], below: tuple[float, float]) -> None:
    start, end = (above[0], above[1] + 0.05), (below[0], below[1] + HEIGHT + 0.05)
    look = {"arrowstyle": "-|>", "color": "#999999", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=look, zorder=0)


if __name__ == "__main__":
    main()
