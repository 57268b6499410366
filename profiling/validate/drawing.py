"""Figure of a recording and its prediction."""

from pathlib import Path
from typing import Any

import numpy as np

from profiling.serving.recording import seconds_of
from profiling.validate.errors import COMPARED, Validation
from traces.shared.figure_style import COLOURS, grid, save, styled

# Percentile of iteration times where the axes end: single outliers would squeeze the rest.
MAX_PERCENTILE = 99.9


@styled
def draw(validation: Validation, path: Path) -> None:
    """Draw the iteration times and latency CDFs of a validation.

    Iteration times are predicted over recorded; latencies are TTFT, TBT and end-to-end latency.
    """
    figure, panels = grid(2, 2, width=4.6, height=3.5)
    _draw_iterations(panels[0], validation)
    for axes, latency in zip(panels[1:], COMPARED, strict=True):
        for number, (name, result) in enumerate(
            (("recorded", validation.measured), ("simulated", validation.predicted))
        ):
            values, shares = result.latencies[latency].cdf()
            axes.step(values * 1e3, shares, where="post", color=COLOURS[number], label=name, linewidth=1.4)
        axes.set(xlabel=f"{latency.removesuffix('_s').upper()}, ms", ylabel="share", ylim=(0, 1.02), xlim=(0, None))
        axes.legend(fontsize=8, loc="lower right")
    panels[0].set_title(validation.recording.name, loc="left")
    save(figure, path)


def _draw_iterations(axes: Any, validation: Validation) -> None:
    measured, predicted = seconds_of(validation.recording.served) * 1e3, validation.predicted_s * 1e3
    chunks = np.array([bool(step.chunks) for step in validation.recording.served.iterations])
    for number, (name, chosen) in enumerate((("decodes", ~chunks), ("with a chunk", chunks))):
        axes.plot(measured[chosen], predicted[chosen], ".", markersize=2, color=COLOURS[number], label=name)
    limit = np.percentile(measured, MAX_PERCENTILE)
    axes.plot([0, limit], [0, limit], color="black", linewidth=1)
    axes.set(xlabel="iteration, recorded, ms", ylabel="predicted, ms", xlim=(0, limit), ylim=(0, limit))
    axes.legend(fontsize=8, loc="upper left", markerscale=4)
