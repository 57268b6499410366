"""Style of all figures: colours, lines, units, files.

Series differ in lightness and in dashes, so that colour-blind readers can distinguish them, also in greyscale;
`tests/test_plots.py` checks this.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from traces.shared.atomic_files import write_atomic

# From the colour-blind-safe palettes of Paul Tol (personal.sron.nl/~pault) and of Okabe and Ito.
COLOURS = ("#004488", "#BB5566", "#56B4E9", "#000000", "#DDAA33", "#117733")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.2, 1.2)),
    (0, (6, 2, 1, 2)),
    (0, (9, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 3)),
    (0, (8, 2, 2, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "oo", "--")
# The parts of a batch, in every figure.
PROMPT, DECODE, IDLE = "#DDAA33", "#004488", "#E4E4E4"
PROMPT_HATCH = "////"
GREY = "#777777"
FORMATS = ("png", "svg")
DPI = 120
# Inches. Pages show figures 800 pixels wide: wider ones would be shrunk until their text is illegible.
WIDTH = 8.0
# Axes over more decades than this only label powers of ten.
_MOST_DECADES = 2.2
# Axes over more decades than this label a few powers of ten, whose plain numbers are long.
_MANY_DECADES, _FEW_TICKS = 5.0, 4
_LONGEST_LABEL = 32
_TITLE_AND_LEGEND = 0.8  # inches
_TITLE_POINTS = 9.0
_LETTER_POINTS = 4.9  # mean width of a letter of a title

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "hatch.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    # The same figure gives the same bytes; text stays text.
    "svg.hashsalt": "figure",
    "svg.fonttype": "none",
    # Names of runs may contain $.
    "text.parse_math": False,
}

P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function to draw in the common style."""

    @wraps(draw)
    def draw_styled(*args: P.args, **kwargs: P.kwargs) -> T:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return draw_styled


def line(index: int) -> dict[str, Any]:
    """Return colour and dashes of the series with this index."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}


def points(index: int) -> dict[str, Any]:
    """Return colour, dashes and marker of a series of few points."""
    return {**line(index), "marker": MARKERS[index % len(MARKERS)], "markersize": 4.5}


def bars(index: int) -> dict[str, Any]:
    """Return colour and hatch of a series of bars."""
    return {"color": COLOURS[index % len(COLOURS)], "hatch": HATCHES[index % len(HATCHES)], "edgecolor": "white"}


def grid(rows: int, columns: int, height: float = 3.3, width: float | None = None) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, row by row.

    Args:
        rows: Rows of panels.
        columns: Panels in a row.
        height: Height of a panel, inches.
        width: Width of a panel, inches; None: the panels fill WIDTH.
    """
    figure = Figure(figsize=((width or WIDTH / columns) * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def rows_of_series(names: Sequence[str], panels: int, x_label: str, height: float = 2.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels for each series, row by row.

    All have a common x axis. A single series has its panels one above the other; several have a row each, with a common
    y axis in a column.

    Args:
        names: Names of the series; more than one name their rows.
        panels: Panels of each series.
        x_label: Label of the x axis, below the last panels.
        height: Height of a panel, inches; with several series, of three quarters of it.
    """
    several = len(names) > 1
    shape = (len(names), panels) if several else (panels, 1)
    row_height = 0.75 * height if several else height
    figure = Figure(figsize=(WIDTH, row_height * shape[0] + _TITLE_AND_LEGEND), layout="constrained")
    axes = figure.subplots(*shape, sharex=True, sharey="col" if several else False, squeeze=False)
    for name, row in zip(names, axes, strict=False):
        if several:
            row[0].set_title(legible(name), loc="left")
    for last in axes[-1]:
        last.set_xlabel(x_label)
    return figure, list(axes.ravel())


@styled
def set_title(figure: Figure, what: str, heading: str = "") -> None:
    """Set the title of a figure, and the heading below it.

    Args:
        figure: The figure.
        what: What it shows, in words.
        heading: Model, devices, layout, policy, trace and load; wrapped to the width of the figure.
    """
    if not what:
        return
    letters = int(0.98 * figure.get_figwidth() * 72 / _LETTER_POINTS)
    text = "\n".join([what, *textwrap.wrap(heading, letters)])
    figure.suptitle(text, x=0.01, ha="left", fontsize=_TITLE_POINTS)


def time_unit(span_s: float) -> tuple[str, float]:
    """Return the unit in which to show a time span.

    Returns:
        Name of the unit, and its length in seconds.
    """
    return next(((name, size) for name, size in (("h", 3600.0), ("min", 60.0)) if span_s > 3 * size), ("s", 1.0))


def legible(name: str) -> str:
    """Return a name as a legend label.

    Long names are shortened in the middle: those of a sweep begin alike. Matplotlib hides labels with a leading
    underscore, so these get a space in front.
    """
    half = _LONGEST_LABEL // 2
    short = name if len(name) <= _LONGEST_LABEL else f"{name[: half - 1]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
    return f" {short}" if short.startswith("_") else short


def _labelled_multiples(low: float, high: float) -> tuple[float, ...]:
    """Return the multiples of powers of ten to label.

    They are the fewest that give at least two ticks.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = ((1.0,), (1.0, 2.0, 5.0)) if math.log10(high / low) > _MOST_DECADES else ((1.0, 2.0, 5.0),)
    for subs in choices:
        if sum(low <= sub * 10.0**power <= high for power in powers for sub in subs) > 1:
            return subs
    return tuple(float(digit) for digit in range(1, 10))


def _plain(value: float, _position: object) -> str:
    """Return a tick label without an exponent: 0.00001, 20,000."""
    return f"{value:,.6g}" if value >= 1 else np.format_float_positional(float(f"{value:.3g}"), trim="-")


def make_logarithmic(axes: Axes, x: bool = False, y: bool = False) -> None:
    """Make axes of a panel logarithmic, with plain numbers as tick labels.

    Args:
        axes: The finished panel; all its data are above 0.
        x: Whether to change the x axis.
        y: Whether to change the y axis.
    """
    if x:
        axes.set_xscale("log")
    if y:
        axes.set_yscale("log")
    for axis in [axes.xaxis] * x + [axes.yaxis] * y:
        low, high = axis.get_view_interval()
        num_ticks = _FEW_TICKS if math.log10(high / low) > _MANY_DECADES else None
        axis.set_major_locator(LogLocator(subs=_labelled_multiples(low, high), numticks=num_ticks))
        axis.set_major_formatter(FuncFormatter(_plain))
        axis.set_minor_formatter(NullFormatter())


@styled
def rendered(figure: Figure, file_format: str = "png") -> bytes:
    """Return a figure as the content of a file.

    The same figure gives the same bytes.

    Args:
        figure: The figure.
        file_format: One of FORMATS.
    """
    content = BytesIO()
    metadata = {"Date": None} if file_format == "svg" else None
    figure.savefig(content, format=file_format, dpi=DPI, metadata=metadata)
    return content.getvalue()


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure atomically, in the format of the suffix.

    Raises:
        OSError: The file cannot be written.
        ValueError: The suffix is not in FORMATS.
    """
    path = Path(path)
    file_format = path.suffix.removeprefix(".")
    if file_format not in FORMATS:
        raise ValueError(f"{path.name} must end in {' or '.join(f'.{known}' for known in FORMATS)}")
    write_atomic(path, rendered(figure, file_format))
