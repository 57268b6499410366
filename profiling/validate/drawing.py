"""Figure of a recording and its prediction."""

from pathlib import Path
from typing import Any

import numpy as np

from profiling.serving.recording import seconds_of
from profiling.validate.errors import COMPARED, Validation
from simulator.plot import axis_of
from traces.shared.figure_style import COLOURS, grid, line, save, set_title, styled

# Percentile of iteration times where the axes end: single outliers would squeeze the rest.
MAX_PERCENTILE = 99.9


@styled
def draw(validation: Validation, path: Path) -> None:
    """Draw the iteration times and latency CDFs of a validation.

    Iteration times are predicted over recorded; latencies are TTFT, TBT and end-to-end latency.
    """
    figure, panels = grid(2, 2, height=3.0)
    _draw_iterations(panels[0], validation)
    for axes, latency in zip(panels[1:], COMPARED, strict=True):
        label, unit_s = axis_of(latency)
        for number, (name, result) in enumerate(
            (("recorded", validation.measured), ("simulated", validation.predicted))
        ):
            values, shares = result.latencies[latency].cdf()
            axes.step(values / unit_s, 100 * shares, where="post", label=name, **line(number))
        counted = "gaps" if latency == "tbt_s" else "requests"
        axes.set(xlabel=label, ylabel=f"share of {counted}, %", ylim=(0, 101), xlim=(0, None))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=3, markerscale=4)
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    set_title(figure, f"Recorded and simulated: {validation.recording.name}")
    save(figure, path)


def _draw_iterations(axes: Any, validation: Validation) -> None:
    measured, predicted = seconds_of(validation.recording.served) * 1e3, validation.predicted_s * 1e3
    chunks = np.array([bool(step.chunks) for step in validation.recording.served.iterations])
    for number, (name, chosen) in enumerate((("decodes only", ~chunks), ("with a prompt chunk", chunks))):
        axes.plot(measured[chosen], predicted[chosen], ".", markersize=2, color=COLOURS[number], label=name)
    limit = np.percentile(measured, MAX_PERCENTILE)
    axes.plot([0, limit], [0, limit], color="black", linewidth=1, label="equal")
    axes.set(xlabel="iteration time, recorded, ms", ylabel="predicted, ms", xlim=(0, limit), ylim=(0, limit))
