"""Roofline plot of the kernels of a batch on a GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from simulator.model import Device
from traces.shared.figure_style import COLOURS, DASHES, GREY, MARKERS, grid, line, make_logarithmic, styled

_TERA = 1e12
# Kernels that take a smaller share of the total kernel time are not drawn.
LEAST_SHARE = 0.01
# Number formats that share the matrix rate of half precision have one roof.
_HALF = "half precision"
_OPACITY = {"hollow": 0.0, "pale": 0.35, "filled": 0.9}


@styled
def roofline(device: Device, batches: Mapping[str, dict[str, Any]]) -> Figure:
    """Draw the FLOP rate of each kernel against its arithmetic intensity.

    Each kernel has the roof of the number format in which it multiplies: markers of the lowest roof are hollow, those
    of higher ones filled. Marker size is the kernel's share of the time. Kernels that multiply no matrices are left
    out, because no roof is theirs: they move bytes, partly within the caches. So are those under LEAST_SHARE of the
    time.

    Args:
        device: The GPU; its peaks in the formats of the kernels make the roofs.
        batches: Breakdowns of `simulator.iteration_time.time_breakdown`, by batch name.

    Source: Williams et al., CACM 2009; T = max(T_math, T_mem) as in arXiv:2403.02310, section 3.1.
    """
    figure, (axes,) = grid(1, 1, height=4.6)
    kernels = {name: _kernels(batch) for name, batch in batches.items()}
    drawn = [kernel for batch in kernels.values() for kernel in batch]
    names = list(dict.fromkeys(kernel.name for kernel in drawn))
    rates = {kernel.roof: device.tflops(kernel.dtype) for kernel in drawn}
    roofs = dict(sorted(rates.items(), key=lambda roof: roof[1]))
    fills = dict(zip(roofs, ("hollow", "filled") if len(roofs) < 3 else ("hollow", "pale", "filled"), strict=False))
    for index, batch in enumerate(kernels.values()):
        for kernel in batch:
            style = _style(index, names.index(kernel.name), fills[kernel.roof])
            axes.scatter(kernel.intensity, kernel.tflops, s=14 + 240 * kernel.share, gid=kernel.roof, **style)
    low = min([*(kernel.intensity for kernel in drawn), 10.0]) / 2
    high = max([*(kernel.intensity for kernel in drawn), 1000.0]) * 2
    _draw_roofs(axes, device, roofs, np.geomspace(low, high, 200))
    axes.margins(x=0, y=0.12)
    make_logarithmic(axes, x=True, y=True)
    axes.set(xlabel="arithmetic intensity, FLOP/byte", ylabel="attained, TFLOP/s")
    figure.legend(handles=[*_batch_legend(batches), *axes.lines], loc="outside lower left")
    figure.legend(handles=_kernel_legend(names, fills), loc="outside lower right", ncols=2)
    return figure


@dataclass(frozen=True)
class _Kernel:
    """A kernel of a batch on one GPU.

    Its figures are summed over layers and stages.
    """

    name: str
    dtype: str
    intensity: float
    tflops: float
    share: float

    @property
    def roof(self) -> str:
        """Name of its roof."""
        return _HALF if self.dtype in ("fp16", "bf16") else self.dtype


def _kernels(batch: dict[str, Any]) -> list[_Kernel]:
    """Return the kernels with FLOPs and at least LEAST_SHARE of the time.

    The time is that of all kernels with FLOPs.
    """
    totals: dict[tuple[str, str], list[float]] = {}
    for row in batch["operators"]:
        if row["flops"] > 0 and row["bytes"] > 0:
            total = totals.setdefault((row["name"], row["dtype"]), [0.0, 0.0, 0.0])
            for index, key in enumerate(("flops", "bytes", "seconds")):
                total[index] += row[key]
    total_s = sum(seconds for _, _, seconds in totals.values())
    return [
        _Kernel(name.replace("_", " "), dtype, flops / num_bytes, flops / seconds / _TERA, seconds / total_s)
        for (name, dtype), (flops, num_bytes, seconds) in totals.items()
        if seconds >= LEAST_SHARE * total_s
    ]


def _style(batch: int, kernel: int, fill: str) -> dict[str, Any]:
    colour = COLOURS[batch % len(COLOURS)]
    face = to_rgba(colour, _OPACITY[fill])
    return {"marker": MARKERS[kernel % len(MARKERS)], "facecolor": face, "edgecolor": colour, "linewidth": 1.3}


def _draw_roofs(axes: Axes, device: Device, roofs: Mapping[str, float], intensity: NDArray[np.float64]) -> None:
    bandwidth = device.bandwidth_gb_per_s
    for index, (name, tflops) in enumerate(roofs.items()):
        roof = np.minimum(tflops, intensity * bandwidth / 1e3)
        ridge = f"ridge at {tflops * 1e3 / bandwidth:,.0f} FLOP/byte"
        label = f"roof of {name}: {tflops:,.0f} TFLOP/s, {bandwidth:,.0f} GB/s, {ridge}"
        axes.plot(intensity, roof, color=GREY, linewidth=1.2, linestyle=DASHES[index], label=label, zorder=1)


def _batch_legend(batches: Mapping[str, dict[str, Any]]) -> list[Line2D]:
    handles = []
    for index, (name, batch) in enumerate(batches.items()):
        label = f"{name}: {batch['iteration_s'] * 1e3:.1f} ms, MFU {batch['mfu']:.0%}, MBU {batch['mbu']:.0%}"
        handles.append(Line2D([], [], linestyle="none", marker="s", color=line(index)["color"], label=label))
    return handles


def _kernel_legend(names: Sequence[str], fills: Mapping[str, str]) -> list[Line2D]:
    """Return a handle for each kernel, and for several fills."""
    style: Any = {"linestyle": "none", "color": GREY, "markersize": 6, "markeredgewidth": 1.3}
    handles = [
        Line2D([], [], marker=MARKERS[index % len(MARKERS)], markerfacecolor="none", label=name, **style)
        for index, name in enumerate(names)
    ]
    if len(fills) > 1:
        style["markeredgecolor"] = GREY
        for roof, fill in fills.items():
            face = to_rgba(GREY, _OPACITY[fill])
            handles.append(Line2D([], [], marker="o", markerfacecolor=face, label=f"{fill}: {roof}", **style))
    return handles
