"""Tables of a report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.results import figure

_LONGEST_VALUE = 70
_LONGEST_WORD = 14
# Columns that fit a telephone.
_NARROW = 3


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Displayed text.
        key: Sort key, a number or text; None: sorted last.
    """

    text: str
    key: float | str | None


@dataclass(frozen=True)
class Table:
    """A table with sortable columns.

    Attributes:
        title: Title.
        head: Column names.
        rows: Cells by row.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def is_number(self) -> list[bool]:
        """Whether each column holds numbers; the first names the rows."""
        columns = [[row[column].key for row in self.rows] for column in range(len(self.head))]
        return [index > 0 and any(isinstance(key, int | float) for key in keys) for index, keys in enumerate(columns)]

    @property
    def is_even(self) -> bool:
        """Whether all columns but the first are numbers, equally wide."""
        return len(self.head) > 2 and all(self.is_number[1:])

    @property
    def head_classes(self) -> list[str]:
        """Classes of the column heads; short words do not break."""
        whole = [all(len(word) <= _LONGEST_WORD for word in name.split()) for name in self.head]
        return [
            " ".join(["number"] * number + ["whole"] * one) for number, one in zip(self.is_number, whole, strict=True)
        ]

    @property
    def is_narrow(self) -> bool:
        """Whether it fits a telephone."""
        return len(self.head) <= _NARROW


Format = Callable[[float | None], str]


def word(text: str) -> Cell:
    """Return a cell of text."""
    return Cell(text, text)


def number(value: float | None, text: Format = figure) -> Cell:
    """Return a cell of a number."""
    return Cell(text(value), value)


def dollars(value: float | None) -> str:
    """Format US dollars: "$1,234.50"; "-" for None."""
    return "-" if value is None else f"${value:,.2f}"


def count(value: float | None) -> str:
    """Format a count: "12,345"; "-" for None."""
    return "-" if value is None else f"{value:,.0f}"


def configuration_table(configs: Mapping[str, Any], only_differences: bool) -> Table:
    """Return configurations by name, one row per key."""
    flat = [dict(_flatten(config)) for config in configs.values()]
    if only_differences:
        # Output options do not affect the simulation.
        flat = [{key: value for key, value in config.items() if not key.startswith("output.")} for config in flat]
    rows = []
    for key in dict.fromkeys(key for config in flat for key in config):
        values = [config.get(key, "-") for config in flat]
        if not only_differences or len(set(values)) > 1:
            rows.append([word(key), *(word(_shorten(value)) for value in values)])
    head = ["key", *(configs if len(configs) > 1 else ["value"])]
    return Table("Configuration differences" if only_differences else "Configuration", head, rows)


def _shorten(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}\N{HORIZONTAL ELLIPSIS}"


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _flatten(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, "null" if node is None else str(node).lower() if isinstance(node, bool) else str(node)
