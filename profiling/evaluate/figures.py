"""Figures of predicted against measured times."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from profiling.evaluate.published_iterations import linear_times
from profiling.fit.links import LinkCurveRegressor, groups
from simulator.iteration_time import PUBLISHED_LINEAR_MS, Floats
from traces.shared.figure_style import COLOURS, MARKERS, grid, line, make_logarithmic, save, set_title, styled


@styled
def draw_composition(cases: pd.DataFrame, path: Path) -> None:
    """Draw predicted against measured times of whole iterations, one marker per case.

    Figure 6 of the Sarathi-Serve paper is not of whole iterations; `draw_stairs` draws it.
    """
    cases = cases[~cases["dataset"].str.contains("figure 6")]
    figure, (axes,) = grid(1, 1, height=6.4)
    ends = np.array([cases["measured_s"].min() * 0.8, cases["measured_s"].max() * 1.25]) * 1e3
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.fill_between(ends, ends * 0.9, ends * 1.1, color="black", alpha=0.12, linewidth=0, label="within 10%")
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
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    set_title(figure, "Predicted against measured times of whole iterations, to which nothing is fitted")
    save(figure, path)


@styled
def draw_messages(folders: Sequence[Path], path: Path) -> None:
    """Draw measured all-reduces and messages with fitted link curves, by machine."""
    machines: dict[str, list[tuple[str, Floats, Floats]]] = {}
    for folder in folders:
        for key, num_bytes, seconds in groups(folder):
            name = f"{key['operator'].replace('_', '-')}, {key['num_gpus']} GPUs, {key['gpus_per_node']}/machine"
            machines.setdefault(key["machine"], []).append((name, num_bytes, seconds))
    figure, panels = grid(-(-len(machines) // 2), 2, height=3.8)
    for axes, (machine, measured) in zip(panels, machines.items(), strict=False):
        for number, (name, num_bytes, seconds) in enumerate(measured):
            style = line(number)
            axes.plot(num_bytes / 1e6, seconds * 1e6, ".", markersize=1.5, alpha=0.35, color=style["color"])
            sizes = np.geomspace(num_bytes.min(), num_bytes.max(), 300)
            fitted = LinkCurveRegressor().fit(num_bytes, seconds).predict(sizes)
            axes.plot(sizes / 1e6, fitted * 1e6, label=name, **style)
        make_logarithmic(axes, x=True, y=True)
        axes.set(xlabel="MB on each GPU", ylabel="time, us")
        axes.set_title(machine, loc="left")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.2))
    for unused in panels[len(machines) :]:
        unused.remove()
    set_title(figure, "Collectives and messages by machine: measured (dots) and fitted (lines)")
    save(figure, path)


@styled
def draw_stairs(path: Path) -> None:
    """Draw the time of the linear layers over a batch's tokens.

    The time steps up at each tile.
    """
    tokens = np.arange(1, 1025)
    figure, (axes,) = grid(1, 1, height=4.2)
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
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    set_title(figure, "Time of the linear layers of one iteration, Llama2-70B on A100")
    save(figure, path)
