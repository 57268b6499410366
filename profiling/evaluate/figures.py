"""Figures of predicted against measured times."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from profiling.evaluate.published_iterations import linear_times
from profiling.fit.links import LinkCurveRegressor, groups
from simulator.iteration_time import PUBLISHED_LINEAR_MS, Floats
from traces.shared.figure_style import COLOURS, MARKERS, grid, line, make_logarithmic, save, styled


@styled
def draw_composition(cases: pd.DataFrame, path: Path) -> None:
    """Draw predicted against measured times of whole iterations, one marker per case.

    Figure 6 of the Sarathi-Serve paper is not of whole iterations; `draw_stairs` draws it.
    """
    cases = cases[~cases["dataset"].str.contains("figure 6")]
    figure, (axes,) = grid(1, 1, width=7.5, height=6.2)
    ends = np.array([cases["measured_s"].min() * 0.8, cases["measured_s"].max() * 1.25]) * 1e3
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.fill_between(ends, ends * 0.9, ends * 1.1, color="black", alpha=0.12, linewidth=0, label="within 10 %")
    for number, (dataset, rows) in enumerate(cases.groupby("dataset", sort=False)):
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
    axes.set(xlabel="measured, ms", ylabel="predicted, ms", xlim=ends)
    make_logarithmic(axes, x=True, y=True)
    axes.set_title("Whole iterations, nothing fitted to them", loc="left")
    axes.legend(fontsize=7.5, loc="upper left")
    save(figure, path)


@styled
def draw_messages(folders: Sequence[Path], path: Path) -> None:
    """Draw measured all-reduces and messages with fitted link curves, by machine."""
    machines: dict[str, list[tuple[str, Floats, Floats]]] = {}
    for folder in folders:
        for key, num_bytes, seconds in groups(folder):
            name = f"{key['operator'].replace('_', '-')}, {key['num_gpus']} GPUs, {key['gpus_per_node']} a machine"
            machines.setdefault(key["machine"], []).append((name, num_bytes, seconds))
    figure, panels = grid(-(-len(machines) // 2), 2, width=4.6, height=3.3)
    for axes, (machine, measured) in zip(panels, machines.items(), strict=False):
        for number, (name, num_bytes, seconds) in enumerate(measured):
            style = line(number)
            axes.plot(num_bytes, seconds * 1e6, ".", markersize=1.5, alpha=0.35, color=style["color"])
            sizes = np.geomspace(num_bytes.min(), num_bytes.max(), 300)
            fitted = LinkCurveRegressor().fit(num_bytes, seconds).predict(sizes)
            axes.plot(sizes, fitted * 1e6, label=name, **style)
        make_logarithmic(axes, x=True, y=True)
        axes.set(xlabel="bytes on each GPU", ylabel="time, us")
        axes.set_title(machine, loc="left")
        axes.legend(fontsize=6.5, loc="upper left")
    save(figure, path)


@styled
def draw_stairs(path: Path) -> None:
    """Draw the time of the linear layers over a batch's tokens.

    The time steps up at each tile.
    """
    tokens = np.arange(1, 1025)
    figure, (axes,) = grid(1, 1, width=7.5, height=4.2)
    for index, degree in enumerate((2, 4)):
        style = line(index)
        predicted = np.array(linear_times(degree, tokens)) * 1e3
        axes.plot(tokens, predicted, label=f"predicted, TP{degree}", **style)
        points = {count: times[index] for count, times in PUBLISHED_LINEAR_MS.items() if count <= tokens[-1]}
        axes.scatter(
            list(points),
            list(points.values()),
            color=style["color"],
            marker=MARKERS[index],
            edgecolor="black",
            linewidth=0.5,
            zorder=3,
            label=f"figure 6 of the paper, TP{degree}",
        )
    axes.set(xlabel="tokens in the batch", ylabel="linear layers, ms", xticks=range(0, 1025, 128), ylim=(0, None))
    axes.set_title("Llama2-70B on A100: linear layers of one iteration", loc="left")
    axes.legend()
    save(figure, path)
