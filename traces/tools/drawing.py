"""Plots of a trace: arrivals and lengths."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from traces.shared.figure_style import GREY, grid, line, make_logarithmic, save, set_title, styled
from traces.tools.describe import known_arrivals, window_counts
from traces.trace import Trace

# The rate is drawn over at most this many windows, of one of these lengths in seconds.
_MOST_WINDOWS = 200
_WINDOWS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 86400, 604800)
_CDF_POINTS = 2000


@styled
def draw(trace: Trace, title: str, path: Path) -> None:
    """Plot rate and inter-arrival times (if known), lengths, and output against prompt.

    Args:
        trace: The requests.
        title: Name of the trace.
        path: PNG file to write.
    """
    panels: list[Callable[[Axes, Trace], None]] = [_lengths, _prompt_and_output]
    known_s = known_arrivals(trace)
    if len(known_s) and known_s[0] < known_s[-1]:
        panels = [_rate, _gaps, *panels]
    figure, all_axes = grid(len(panels) // 2, 2, height=3.0)
    for axes, panel in zip(all_axes, panels, strict=True):
        panel(axes, trace)
    arrivals = "arrivals and lengths" if len(panels) > 2 else "lengths"
    set_title(figure, f"{title}: {arrivals} of {len(trace):,} requests")
    save(figure, path)


def _rate(axes: Axes, trace: Trace) -> None:
    arrival_s = known_arrivals(trace)
    span_s = arrival_s[-1] - arrival_s[0]
    window_s = next((length_s for length_s in _WINDOWS_S if span_s <= length_s * _MOST_WINDOWS), _WINDOWS_S[-1])
    counts = window_counts(arrival_s, window_s)
    unit, seconds = next(((name, size) for name, size in (("h", 3600), ("min", 60)) if span_s > 3 * size), ("s", 1))
    start = np.arange(len(counts) + 1) * window_s / seconds
    axes.stairs(counts / window_s, start, color=line(0)["color"], linewidth=1.1, baseline=None)
    mean = (len(arrival_s) - 1) / span_s
    axes.axhline(mean, color=GREY, linestyle="--", linewidth=1, label=f"mean, {mean:.3g} requests/s")
    axes.set(xlabel=f"time, {unit}", ylabel=f"requests/s, in windows of {window_s:,} s", xlim=(0, start[-1] or 1))
    axes.set_ylim(bottom=0)
    _legend_below(axes)


def _gaps(axes: Axes, trace: Trace) -> None:
    gaps = np.sort(np.diff(known_arrivals(trace)))
    mean = gaps.mean()
    levels = np.linspace(0, 1, _CDF_POINTS)
    shown = np.quantile(gaps, levels)
    # A logarithmic axis has no 0: gaps of 0 are drawn at its left edge.
    zeros = f", {np.mean(gaps == 0):.0%} are 0" if gaps[0] == 0 else ""
    floor = max(min(float(np.quantile(gaps[gaps > 0], 0.001)), mean / 100), 1e-6)
    axes.plot(np.maximum(shown, floor), 100 * levels, **line(0), label=f"gaps, CV {gaps.std() / mean:.3g}{zeros}")
    times_s = np.geomspace(floor, gaps[-1], 300)
    axes.plot(times_s, 100 * -np.expm1(-times_s / mean), color=GREY, linestyle="--", label="Poisson process, CV 1")
    make_logarithmic(axes, x=True)
    axes.set(xlabel="time between arrivals, s", ylabel="share of gaps, %", ylim=(0, 101))
    _legend_below(axes)


def _lengths(axes: Axes, trace: Trace) -> None:
    levels = np.linspace(0, 1, _CDF_POINTS)
    for index, (name, tokens) in enumerate((("prompt", trace.prompt_tokens), ("output", trace.output_tokens))):
        label = f"{name}, median {np.median(tokens):,.0f}"
        axes.plot(np.quantile(tokens, levels), 100 * levels, label=label, **line(index))
    make_logarithmic(axes, x=True)
    axes.set(xlabel="tokens", ylabel="share of requests, %", ylim=(0, 101))
    _legend_below(axes)


def _prompt_and_output(axes: Axes, trace: Trace) -> None:
    image = axes.hexbin(
        trace.prompt_tokens,
        trace.output_tokens,
        xscale="log",
        yscale="log",
        gridsize=45,
        mincnt=1,
        norm=LogNorm(),
        cmap="cividis_r",
        linewidths=0.1,
    )
    make_logarithmic(axes, x=True, y=True)
    axes.set(xlabel="prompt, tokens", ylabel="output, tokens")
    image.set_clim(1, max(2, image.get_clim()[1] or 0))
    bar = axes.figure.colorbar(image, ax=axes, label="requests")
    make_logarithmic(bar.ax, y=True)


def _legend_below(axes: Axes) -> None:
    """Put the legend below the panel, where no data are."""
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2))
