"""Where the operators of a batch lie on the roofline of a GPU."""

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
# Kernels that take a smaller share of the time of all kernels are not drawn.
LEAST_SHARE = 0.01
_LABEL_LEFT_FROM = 300.0
_LABELLED_SHARE = 0.03
# In decades.
_NEAR = 0.35


@styled
def roofline(device: Device, batches: Mapping[str, dict[str, Any]]) -> Figure:
    """Draw the FLOP rate that each kernel attains against its arithmetic intensity; size shows its share of the time.

    Kernels under LEAST_SHARE of the time are left out.

    Args:
        device: The GPU; its peaks in half precision make the roof.
        batches: What `simulator.iteration_time.explain` returns, by the name of the batch.

    Source: Williams et al., CACM 2009; T = max(T_math, T_mem) as in arXiv:2403.02310, section 3.1.
    """
    figure, (axes,) = grid(1, 1, width=7.2, height=4.2)
    intensities, labelled = [], list[tuple[float, float]]()
    for place, (name, batch) in enumerate(batches.items()):
        look = {"marker": MARKERS[place % len(MARKERS)], "color": line(place)["color"]}
        label = f"{name}: {batch['iteration_s'] * 1e3:.1f} ms, MFU {batch['mfu']:.0%}, MBU {batch['mbu']:.0%}"
        axes.plot([], [], linestyle="none", markersize=6, label=label, **look)
        kernels = _kernels(batch)
        for one in kernels:
            axes.scatter(one.intensity, one.tflops, s=14 + 240 * one.share, alpha=0.75, linewidth=0, **look)
            intensities.append(one.intensity)
        _label(axes, kernels, labelled)
    low, high = min([*intensities, 1.0]) / 2, max([*intensities, 1000.0]) * 2
    _roof(axes, device, np.geomspace(low, high, 200))
    axes.margins(y=0.15)
    make_logarithmic(axes, x=True, y=True)
    axes.set(xlabel="arithmetic intensity, FLOP/byte", ylabel="attained, TFLOP/s")
    axes.set_title(f"{device.name}: {device.peak_tflops:g} TFLOP/s, {device.bandwidth_gb_per_s:g} GB/s", loc="left")
    figure.legend(loc="outside lower center")
    return figure


@dataclass(frozen=True)
class _Kernel:
    """A kernel of a batch on one GPU, all its layers and stages together."""

    name: str
    intensity: float
    tflops: float
    share: float


def _kernels(batch: dict[str, Any]) -> list[_Kernel]:
    """Kernels that multiply and take a visible share of the time of all of them."""
    sums: dict[str, list[float]] = {}
    for row in batch["operators"]:
        if row["flops"] > 0 and row["bytes"] > 0:
            one = sums.setdefault(row["name"], [0.0, 0.0, 0.0])
            for number, key in enumerate(("flops", "bytes", "seconds")):
                one[number] += row[key]
    total_s = sum(seconds for _, _, seconds in sums.values())
    return [
        _Kernel(name.replace("_", " "), flops / num_bytes, flops / seconds / _TERA, seconds / total_s)
        for name, (flops, num_bytes, seconds) in sums.items()
        if seconds >= LEAST_SHARE * total_s
    ]


def _label(axes: Axes, kernels: list[_Kernel], labelled: list[tuple[float, float]]) -> None:
    """Name the larger kernels, those at about the same place together, and no place twice."""
    places: dict[tuple[int, int], list[_Kernel]] = {}
    for one in (one for one in kernels if one.share >= _LABELLED_SHARE):
        where = round(2 * math.log10(one.intensity)), round(2 * math.log10(one.tflops))
        places.setdefault(where, []).append(one)
    for together in places.values():
        largest = max(together, key=lambda one: one.share)
        here = math.log10(largest.intensity), math.log10(largest.tflops)
        if any(math.dist(here, other) < _NEAR for other in labelled):
            continue
        labelled.append(here)
        text = ", ".join(one.name for one in sorted(together, key=lambda one: -one.share))
        on_the_right = largest.intensity > _LABEL_LEFT_FROM
        axes.annotate(
            text,
            (largest.intensity, largest.tflops),
            (-8 if on_the_right else 8, -11),
            textcoords="offset points",
            fontsize=7,
            ha="right" if on_the_right else "left",
        )


def _roof(axes: Axes, device: Device, intensity: NDArray[np.float64]) -> None:
    roof = np.minimum(device.peak_tflops, intensity * device.bandwidth_gb_per_s / 1e3)
    axes.plot(intensity, roof, color=GREY, linewidth=1.2)
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
