"""Tables as plain data, for the terminal and for pages."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from simulator.results.formatting import figure

# "missed": it misses its bound; "best": it is the best of all.
Mark = Literal["", "missed", "best"]
Format = Callable[[Any], str]
# Values by name; those of parts have dotted names, such as "kv_use.mean". What is missing is unknown.
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Displayed text.
        key: Sort key, a number or text; None: sorted last.
        mark: What is special about it.
    """

    text: str
    key: float | str | None
    mark: Mark = ""


@dataclass(frozen=True)
class Column:
    """A value that a table shows of each of several things.

    Attributes:
        name: Its name among the values.
        head: Its name for people.
        text: Formats a value.
        is_detail: Whether a terminal has no room for it.
    """

    name: str
    head: str
    text: Format = figure
    is_detail: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a name in the first column of each row.

    Attributes:
        title: Title; empty: it needs none.
        head: Names of the columns.
        rows: Cells by row.
        details: Names of columns that a terminal has no room for.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    details: Sequence[str] = ()

    @property
    def is_number(self) -> list[bool]:
        """Whether each column holds numbers; the first names the rows."""
        columns = [[row[column].key for row in self.rows] for column in range(len(self.head))]
        return [index > 0 and any(isinstance(key, int | float) for key in keys) for index, keys in enumerate(columns)]


def cell(value: Any, text: Format = str) -> Cell:
    """Return a cell of a value; "-" for None."""
    shown = "-" if value is None else text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(shown, value if is_number else None if value is None else shown)


def table_of(title: str, columns: Sequence[Column], rows: Iterable[Values]) -> Table:
    """Return a table with a row for each of several things."""
    cells = [[cell(row.get(column.name), column.text) for column in columns] for row in rows]
    details = [column.head for column in columns if column.is_detail]
    return Table(title, [column.head for column in columns], cells, details)


def side_by_side(title: str, first: str, columns: Iterable[Column], things: Mapping[str, Values]) -> Table:
    """Return a table with a column for each of several things.

    Each after the first has its difference to the first. What is unknown of all is left out.

    Args:
        title: Title.
        first: Head of the first column, which names the values.
        columns: What is compared; each becomes a row.
        things: Values by name of the thing.
    """
    rows = []
    for column in columns:
        values = [thing.get(column.name) for thing in things.values()]
        if any(value is not None for value in values):
            rows.append([Cell(column.head, column.head), *_with_changes(values, column.text)])
    return Table(title, [first, *things], rows)


def _with_changes(values: Sequence[float | None], text: Format) -> Iterator[Cell]:
    for index, value in enumerate(values):
        shown = cell(value, text)
        change = f"{value / values[0] - 1:+.1%}" if index and values[0] and value is not None else ""
        yield Cell(f"{shown.text} ({change})", value) if change.strip("+-0.%") else shown


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted name."""
    values: dict[str, Any] = {}
    for name, value in node.items():
        values |= (
            flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
        )
    return values
