"""Interactive charts of a report, drawn by Bokeh."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bokeh.models import (
    BoxAnnotation,
    BoxZoomTool,
    CrosshairTool,
    FixedTicker,
    GlyphRenderer,
    HoverTool,
    NoOverlap,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    Span,
    WheelZoomTool,
)
from bokeh.plotting import figure

from traces.shared.figure_style import COLOURS, DASHES, GREY, MARKERS

# Bokeh's names of the markers of matplotlib.
_MARKERS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "inverted_triangle"}
_MARKERS |= {"P": "plus", "X": "x", "*": "star"}
_SYMBOLS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")
_FONT = "system-ui, sans-serif"
_HEIGHT = 270


@dataclass(frozen=True)
class Key:
    """An entry of the legend of a chart.

    Attributes:
        label: What is drawn.
        colour: Its colour.
        dash: Its dashes, as in SVG; empty: a solid line.
        series: Number of the series that a click turns on and off; None: a click does nothing.
        is_area: Whether it is drawn as an area.
        symbol: Its marker; empty: it is drawn as a line or an area.
    """

    label: str
    colour: str
    dash: str = ""
    series: int | None = None
    is_area: bool = False
    symbol: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart of a report.

    Attributes:
        title: Title.
        drawing: Bokeh's figure.
        keys: Legend.
        note: What the title does not say.
        is_wide: Whether it takes the full width of the page.
    """

    title: str
    drawing: figure
    keys: Sequence[Key] = ()
    note: str = ""
    is_wide: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        label: Quantity and unit: "time, s".
        digits: Format of its numbers, in Bokeh's notation; empty: it has names.
        is_log: Whether it is logarithmic.
    """

    label: str
    digits: str = "0,0.[000]"
    is_log: bool = False

    @property
    def kind(self) -> str:
        """Bokeh's type of the axis."""
        return "log" if self.is_log else "linear" if self.digits else "auto"

    @property
    def unit(self) -> str:
        """Unit of its numbers; empty: a count."""
        return self.label.rpartition(", ")[2] if ", " in self.label else ""

    @property
    def quantity(self) -> str:
        """What it shows, without the unit."""
        return self.label.removesuffix(f", {self.unit}")

    def value(self, column: str) -> str:
        """Return the placeholder of a column in a tooltip, with its unit."""
        return f"@{{{column}}}{{{self.digits}}} {self.unit}".rstrip()


def new_drawing(x: Axis, y: Axis, x_range: Range1d | None = None, **options: Any) -> figure:
    """Return an empty chart that can be zoomed.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        x_range: Range that charts share, so that they zoom together.
        options: Of `bokeh.plotting.figure`.
    """
    zoom = BoxZoomTool(dimensions="auto")
    given = {"height": _HEIGHT, "x_axis_type": x.kind, "y_axis_type": y.kind, **options}
    drawing = figure(
        **given if x_range is None else {**given, "x_range": x_range},
        sizing_mode="stretch_width",
        min_border_right=12,
        min_border_top=8,
        tools=[zoom, PanTool(dimensions="width"), WheelZoomTool(dimensions="width"), ResetTool()],
        active_drag=zoom,
        x_axis_label=x.label,
        y_axis_label=y.label,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        toolbar_location="right",
    )
    drawing.toolbar.logo = None
    drawing.toolbar.autohide = True
    for axis, about in ((drawing.xaxis, x), (drawing.yaxis, y)):
        if about.digits:
            axis.formatter = NumeralTickFormatter(format=about.digits)
        if about.is_log:
            axis.ticker = FixedTicker()  # the page sets its ticks, also after a zoom
        axis.axis_line_color = axis.major_tick_line_color = "#9aa1ab"
        axis.minor_tick_line_color = None
        axis.axis_label_text_font = axis.major_label_text_font = _FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = axis.major_label_text_color = "#4b5360"
        axis.axis_label_text_font_size, axis.major_label_text_font_size = "12px", "12px"
    drawing.xaxis.major_label_policy = NoOverlap()
    drawing.grid.grid_line_color = "#e8eaee"
    return drawing


def key_of(index: int, name: str) -> Key:
    """Return the legend entry of a series."""
    dash = DASHES[index % len(DASHES)]
    pattern = "" if dash == "-" else " ".join(f"{2 * length:g}" for length in dash[1])
    return Key(name, COLOURS[index % len(COLOURS)], pattern, index)


def symbol_of(index: int, name: str) -> Key:
    """Return the legend entry of a series of markers."""
    return replace(key_of(index, name), symbol=_SYMBOLS[index % len(_SYMBOLS)])


def line_style(index: int) -> dict[str, Any]:
    """Return the style of the line of a series."""
    key = key_of(index, "")
    dash: Any = [round(float(length)) for length in key.dash.split()] or "solid"
    return {"line_color": key.colour, "line_dash": dash, "line_width": 2}


def marker_style(index: int) -> dict[str, Any]:
    """Return the style of the markers of a series."""
    marker = _MARKERS[MARKERS[index % len(MARKERS)]]
    return {"marker": marker, "size": 8, "color": COLOURS[index % len(COLOURS)]}


def of_series(index: int, drawn: GlyphRenderer) -> GlyphRenderer:
    """Mark what is drawn of a series, for its legend to hide."""
    drawn.tags = [_tag(index)]
    return drawn


def _tag(index: int) -> str:
    return f"series-{index}"


def add_tooltips(
    drawing: figure,
    renderers: Sequence[GlyphRenderer],
    tooltips: Sequence[tuple[str, str]],
    mode: Literal["mouse", "hline", "vline"] = "mouse",
    policy: Literal["prev", "nearest"] = "nearest",
) -> None:
    """Show values at the pointer.

    Args:
        drawing: The chart.
        renderers: What reacts to the pointer.
        tooltips: Label and value of each line, in Bokeh's notation.
        mode: Whether the pointer must meet it, or only its height or abscissa.
        policy: Which point of a line counts.
    """
    hover = HoverTool(
        renderers=list(renderers), tooltips=list(tooltips), mode=mode, line_policy=policy, point_policy="follow_mouse"
    )
    hover.visible = False
    drawing.add_tools(hover)
    if mode != "mouse":
        dimension: Any = {"vline": "height", "hline": "width"}[mode]
        drawing.add_tools(CrosshairTool(dimensions=dimension, line_color=GREY, line_alpha=0.5, visible=False))


def draw_rule(drawing: figure, dimension: Literal["width", "height"], location: float) -> None:
    """Draw a line across the chart: a bound, or a capacity."""
    drawing.add_layout(
        Span(dimension=dimension, location=location, line_color=GREY, line_dash="dashed", line_width=1.5)
    )


def shade(drawing: figure, begin: float, end: float, colour: str, series: int) -> None:
    """Shade a span of time of a series."""
    drawing.add_layout(
        BoxAnnotation(left=begin, right=end, fill_color=colour, fill_alpha=0.13, line_color=None, tags=[_tag(series)])
    )
