"""Roofline plot of the kernels of a batch on a GPU."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simulator.model import Device
from traces.shared.figure_style import GREY, MARKERS, grid, line, make_logarithmic, styled

_TERA = 1e12
# Kernels that take a smaller share of the total kernel time are not drawn.
LEAST_SHARE = 0.01
# Labels are to the left of kernels beyond this arithmetic intensity, FLOP/byte.
_LABEL_LEFT_FROM = 300.0
_LABELLED_SHARE = 0.03
# No two labels are closer than this, in decades.
_MIN_LABEL_DISTANCE = 0.35


@styled
def roofline(device: Device, batches: Mapping[str, dict[str, Any]]) -> Figure:
    """Draw the FLOP rate of each kernel against its arithmetic intensity.

    Marker size is the kernel's share of the time. Kernels under LEAST_SHARE of the time are left out.

    Args:
        device: The GPU; its peaks in half precision, and in the other formats of the kernels, make the roofs.
        batches: Breakdowns of `simulator.iteration_time.time_breakdown`, by batch name.

    Source: Williams et al., CACM 2009; T = max(T_math, T_mem) as in arXiv:2403.02310, section 3.1.
    """
    figure, (axes,) = grid(1, 1, width=7.2, height=4.2)
    intensities, labelled = [], list[tuple[float, float]]()
    for index, (name, batch) in enumerate(batches.items()):
        style = {"marker": MARKERS[index % len(MARKERS)], "color": line(index)["color"]}
        label = f"{name}: {batch['iteration_s'] * 1e3:.1f} ms, MFU {batch['mfu']:.0%}, MBU {batch['mbu']:.0%}"
        axes.plot([], [], linestyle="none", markersize=6, label=label, **style)
        kernels = _kernels(batch)
        for kernel in kernels:
            axes.scatter(kernel.intensity, kernel.tflops, s=14 + 240 * kernel.share, alpha=0.75, linewidth=0, **style)
            intensities.append(kernel.intensity)
        _label(axes, kernels, labelled)
    low, high = min([*intensities, 1.0]) / 2, max([*intensities, 1000.0]) * 2
    rows = [row for batch in batches.values() for row in batch["operators"] if row["flops"] > 0]
    peaks = {device.tflops(row["dtype"]): row["dtype"] for row in rows}
    _draw_roofs(axes, device, peaks, np.geomspace(low, high, 200))
    axes.margins(y=0.15)
    make_logarithmic(axes, x=True, y=True)
    axes.set(xlabel="arithmetic intensity, FLOP/byte", ylabel="attained, TFLOP/s")
    axes.set_title(f"{device.name}: {device.peak_tflops:g} TFLOP/s, {device.bandwidth_gb_per_s:g} GB/s", loc="left")
    figure.legend(loc="outside lower center")
    return figure


@dataclass(frozen=True)
class _Kernel:
    """A kernel of a batch on one GPU.

    Its figures are summed over layers and stages.
    """

    name: str
    intensity: float
    tflops: float
    share: float


def _kernels(batch: dict[str, Any]) -> list[_Kernel]:
    """Return the kernels with FLOPs and at least LEAST_SHARE of the time.

    The time is that of all kernels with FLOPs.
    """
    totals: dict[str, list[float]] = {}
    for row in batch["operators"]:
        if row["flops"] > 0 and row["bytes"] > 0:
            total = totals.setdefault(row["name"], [0.0, 0.0, 0.0])
            for index, key in enumerate(("flops", "bytes", "seconds")):
                total[index] += row[key]
    total_s = sum(seconds for _, _, seconds in totals.values())
    return [
        _Kernel(name.replace("_", " "), flops / num_bytes, flops / seconds / _TERA, seconds / total_s)
        for name, (flops, num_bytes, seconds) in totals.items()
        if seconds >= LEAST_SHARE * total_s
    ]


def _label(axes: Axes, kernels: list[_Kernel], labelled: list[tuple[float, float]]) -> None:
    """Label the larger kernels.

    Kernels that are close together share a label; a label close to an earlier one is left out.
    """
    clusters: dict[tuple[int, int], list[_Kernel]] = {}
    for kernel in (kernel for kernel in kernels if kernel.share >= _LABELLED_SHARE):
        cell = round(2 * math.log10(kernel.intensity)), round(2 * math.log10(kernel.tflops))
        clusters.setdefault(cell, []).append(kernel)
    for cluster in clusters.values():
        largest = max(cluster, key=lambda kernel: kernel.share)
        position = math.log10(largest.intensity), math.log10(largest.tflops)
        if any(math.dist(position, previous) < _MIN_LABEL_DISTANCE for previous in labelled):
            continue
        labelled.append(position)
        text = ", ".join(kernel.name for kernel in sorted(cluster, key=lambda kernel: -kernel.share))
        on_the_right = largest.intensity > _LABEL_LEFT_FROM
        axes.annotate(
            text,
            (largest.intensity, largest.tflops),
            (-8 if on_the_right else 8, -11),
            textcoords="offset points",
            fontsize=7,
            ha="right" if on_the_right else "left",
        )


def _draw_roofs(axes: Axes, device: Device, peaks: Mapping[float, str], intensity: NDArray[np.float64]) -> None:
    """Draw the roofs, and the ridge point of half precision."""
    for tflops in sorted({device.peak_tflops, *peaks}):
        roof = np.minimum(tflops, intensity * device.bandwidth_gb_per_s / 1e3)
        axes.plot(intensity, roof, color=GREY, linewidth=1.2)
        if tflops != device.peak_tflops:
            at = (intensity[-1], tflops)
            text = f"{peaks[tflops]}: {tflops:g} TFLOP/s"
            axes.annotate(text, at, (-4, 4), textcoords="offset points", ha="right", fontsize=7, color=GREY)
    ridge = device.peak_tflops / device.bandwidth_gb_per_s * 1e3
    axes.axvline(ridge, color=GREY, linewidth=0.8, linestyle=":")
    axes.annotate(
        f"memory-bound | compute-bound\n{ridge:.0f} FLOP/byte",
        (ridge, 0.02),
        xycoords=("data", "axes fraction"),
        ha="center",
        fontsize=7,
        color=GREY,
    )
