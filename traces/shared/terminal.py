"""Terminal output in one style: facts, tables, notes."""

from collections.abc import Collection, Iterable, Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

# A pipe counts as this wide, so that no number is cut off.
PIPE_WIDTH = 170


def facts(rows: Mapping[str, str] | Iterable[tuple[str, str]]) -> Table:
    """Return a table of labels and texts."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows.items() if isinstance(rows, Mapping) else rows:
        table.add_row(label, Text(text))
    return table


def new_table(columns: Iterable[str], title: str | None = None, left: Collection[str] = ()) -> Table:
    """Return an empty table in the style of all commands.

    Args:
        columns: Names of the columns. The first is left-aligned, the others right-aligned.
        title: Line above it.
        left: More columns that are left-aligned.
    """
    table = Table(title=title, title_justify="left", title_style="dim", box=SIMPLE_HEAD)
    table.show_edge, table.pad_edge = False, False
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 or name in left else "right", overflow="fold")
    return table


def show(console: Console, *parts: RenderableType) -> None:
    """Print tables and texts without trailing blanks."""
    wide = console if console.is_terminal else Console(file=console.file, width=max(console.width, PIPE_WIDTH))
    for part in parts:
        lines = wide.render_lines(part, pad=False)
        wide.print(Segments([segment for line in lines for segment in (*_stripped(line), Segment.line())]), end="")


def warn(console: Console, text: str, label: str = "warning") -> None:
    """Print a warning on one line."""
    console.print(Text(f"{label}: {text}", style="bold yellow"), soft_wrap=True)


def note(console: Console, text: str) -> None:
    """Print a note, such as where files are, on one line."""
    console.print(Text(text, style="dim"), soft_wrap=True)


def _stripped(line: list[Segment]) -> list[Segment]:
    """Return a line without the blanks at its end."""
    kept = list(line)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        last = kept.pop()
        kept.append(Segment(last.text.rstrip(), last.style))
    return kept
