"""Pictures of predicted against measured times."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from profiling.composition import stairs
from profiling.links import MessageCurveRegressor, groups
from simulator.iteration_time.regression import Floats
from simulator.reproduce.published import FIGURE_6

# Okabe and Ito's colours, told apart by the colour-blind and in grey with the markers.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#999999", "#F0E442", "#FFFFFF")
MARKERS = "os^Dv<>P*X"
LINES = ("-", "--", "-.", ":")
STYLE: Any = {
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
DPI = 130


def draw_composition(found: pd.DataFrame, path: Path) -> None:
    """Draw predicted against measured times of whole iterations, one mark per case.

    Figure 6 of the paper is no whole iteration; `draw_stairs` draws it.
    """
    found = found[~found["dataset"].str.contains("figure 6")]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 6.2), layout="constrained")
        ends = np.array([found["measured_s"].min() * 0.8, found["measured_s"].max() * 1.25]) * 1e3
        axes.plot(ends, ends, color="black", linewidth=1)
        axes.fill_between(ends, ends * 0.9, ends * 1.1, color="black", alpha=0.12, linewidth=0, label="within 10 %")
        for number, (dataset, rows) in enumerate(found.groupby("dataset", sort=False)):
            axes.scatter(
                rows["measured_s"] * 1e3,
                rows["predicted_s"] * 1e3,
                s=26,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                edgecolor="black",
                linewidth=0.3,
                label=dataset,
            )
        axes.set(xscale="log", yscale="log", xlabel="measured, ms", ylabel="predicted, ms", xlim=ends)
        axes.set_title("Whole iterations, nothing fitted to them", loc="left")
        axes.legend(fontsize=7.5, frameon=False, loc="upper left")
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


def draw_messages(folders: Sequence[Path], path: Path) -> None:
    """Draw measured all-reduces and messages of each machine, and the curves that are fitted to them."""
    found: dict[str, list[tuple[str, Floats, Floats]]] = {}
    for folder in folders:
        for key, num_bytes, seconds in groups(folder):
            name = f"{key['operator'].replace('_', '-')}, {key['num_gpus']} GPUs, {key['gpus_per_node']} a machine"
            found.setdefault(key["machine"], []).append((name, num_bytes, seconds))
    with mpl.rc_context(STYLE):
        rows = -(-len(found) // 2)
        figure, grid = plt.subplots(rows, 2, figsize=(9, 3.1 * rows), layout="constrained", sharex=True, sharey=True)
        for axes, (machine, measured) in zip(grid.flat, found.items(), strict=False):
            for number, (name, num_bytes, seconds) in enumerate(measured):
                colour = COLOURS[number % len(COLOURS)]
                axes.plot(num_bytes, seconds * 1e6, ".", markersize=1.5, alpha=0.35, color=colour, rasterized=True)
                sizes = np.geomspace(num_bytes.min(), num_bytes.max(), 300)
                fitted = MessageCurveRegressor().fit(num_bytes, seconds).predict(sizes)
                axes.plot(sizes, fitted * 1e6, color=colour, linestyle=LINES[number % len(LINES)], label=name)
            axes.set(xscale="log", yscale="log", xlabel="bytes on each GPU", ylabel="time, us")
            axes.set_title(machine, loc="left")
            axes.legend(fontsize=6.5, frameon=False, loc="upper left")
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


def draw_stairs(path: Path) -> None:
    """Draw the stairs of the linear layers over the tokens of a batch."""
    tokens = np.arange(1, 1025)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
        for place, degree in enumerate((2, 4)):
            colour = COLOURS[place]
            predicted = np.array(stairs(degree, tokens)) * 1e3
            axes.plot(tokens, predicted, color=colour, linewidth=1.4, label=f"predicted, TP{degree}")
            points = {count: times[place] for count, times in FIGURE_6.items() if count <= tokens[-1]}
            axes.scatter(
                list(points),
                list(points.values()),
                color=colour,
                marker=MARKERS[place],
                edgecolor="black",
                linewidth=0.5,
                zorder=3,
                label=f"figure 6 of the paper, TP{degree}",
            )
        axes.set(xlabel="tokens in the batch", ylabel="linear layers, ms", xticks=range(0, 1025, 128), ylim=(0, None))
        axes.set_title("Llama2-70B on A100: linear layers of one iteration", loc="left")
        axes.legend(frameon=False)
        figure.savefig(path, dpi=DPI)
        plt.close(figure)
