"""The one look of all pictures: colours, lines, units, files.

Series differ in lightness and in dashes, so that they can be told apart by the colour-blind and in grey;
`tests/test_plots.py` holds them to it.
"""

import math
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from traces.shared.whole_files import write_whole

# Of the schemes of Paul Tol (personal.sron.nl/~pault) and of Okabe and Ito for the colour-blind.
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
# What the parts of a batch look like everywhere.
PROMPT, DECODE, IDLE = "#DDAA33", "#004488", "#E4E4E4"
PROMPT_HATCH = "////"
GREY = "#777777"
FORMATS = ("png", "svg")
DPI = 120
# Over more decades than this only the powers of ten are named.
_MOST_DECADES = 2.2
_LONGEST_NAME = 32

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
    # The same picture, the same bytes; text stays text.
    "svg.hashsalt": "figure",
    "svg.fonttype": "none",
    # Names of runs are no formulas.
    "text.parse_math": False,
}

P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Let a function draw in the common look."""

    @wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return within


def line(place: int) -> dict[str, Any]:
    """Colour and dashes of a series, by its place among the others."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}


def points(place: int) -> dict[str, Any]:
    """Colour, dashes and marker of a series of few points."""
    return {**line(place), "marker": MARKERS[place % len(MARKERS)], "markersize": 4.5}


def bars(place: int) -> dict[str, Any]:
    """Colour and hatch of a series of bars."""
    return {"color": COLOURS[place % len(COLOURS)], "hatch": HATCHES[place % len(HATCHES)], "edgecolor": "white"}


def grid(rows: int, columns: int, width: float = 4.9, height: float = 3.3) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, line by line.

    Args:
        rows: Lines of panels.
        columns: Panels in a line.
        width: Of a panel, inches.
        height: Of a panel, inches.
    """
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def time_unit(span_s: float) -> tuple[str, float]:
    """Return the unit in which a span of time is shown, and its seconds."""
    return next(((name, size) for name, size in (("h", 3600.0), ("min", 60.0)) if span_s > 3 * size), ("s", 1.0))


def legible(name: str) -> str:
    """Return a name as legends show it: not too long, and also if it begins with an underscore, which hides labels."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    return f" {short}" if short.startswith("_") else short


def _named_ticks(low: float, high: float) -> tuple[float, ...]:
    """Multiples of the powers of ten that have a name: as few as make at least two within the view."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = ((1.0,), (1.0, 2.0, 5.0)) if math.log10(high / low) > _MOST_DECADES else ((1.0, 2.0, 5.0),)
    for subs in choices:
        if sum(low <= sub * 10.0**power <= high for power in powers for sub in subs) > 1:
            return subs
    return tuple(float(digit) for digit in range(1, 10))


def make_logarithmic(axes: Axes, x: bool = False, y: bool = False) -> None:
    """Make the scales of a panel on which all is drawn logarithmic, with plain numbers at the ticks.

    Args:
        axes: The panel; all that is drawn lies above 0.
        x: Whether its x axis.
        y: Whether its y axis.
    """
    if x:
        axes.set_xscale("log")
    if y:
        axes.set_yscale("log")
    for axis in [axes.xaxis] * x + [axes.yaxis] * y:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=_named_ticks(low, high)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


@styled
def rendered(figure: Figure, file_format: str = "png") -> bytes:
    """Return a picture as the content of a file, the same bytes each time.

    Args:
        figure: The picture.
        file_format: One of FORMATS.
    """
    content = BytesIO()
    metadata = {"Date": None} if file_format == "svg" else None
    figure.savefig(content, format=file_format, dpi=DPI, metadata=metadata)
    return content.getvalue()


def save(figure: Figure, path: Path | str) -> None:
    """Write a picture whole, in the format of its suffix.

    Raises:
        OSError: It cannot be written.
        ValueError: The suffix is none of FORMATS.
    """
    path = Path(path)
    file_format = path.suffix.removeprefix(".")
    if file_format not in FORMATS:
        raise ValueError(f"{path.name} must end in {' or '.join(f'.{one}' for one in FORMATS)}")
    write_whole(path, rendered(figure, file_format))
