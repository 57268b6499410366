"""Terminal tables, and the entry point of commands without a configuration."""

import sys
from collections.abc import Callable, Sequence
from textwrap import wrap

from rich import table
from rich.console import Console
from rich.text import Text

from simulator.config import one_line
from simulator.results import Table
from traces.shared import command_line
from traces.shared.terminal import new_table

_NARROWEST = 9
_STYLES = {"": "", "missed": "red", "best": "bold"}


def terminal_table(content: Table, *, titled: bool = False) -> table.Table:
    """Return a table for the terminal, without its details.

    Args:
        content: The table.
        titled: Whether its title stands above it.
    """
    shown = [number for number, head in enumerate(content.head) if head not in content.details]
    is_number = content.is_number
    heads = [_narrow(content, number) if is_number[number] else content.head[number] for number in shown]
    words = [content.head[number] for number in shown if not is_number[number]]
    drawn = new_table(heads, content.title if titled else None, left=words)
    for row in content.rows:
        cells = [row[number] for number in shown]
        drawn.add_row(*(Text(cell.text, style=_STYLES[cell.mark]) for cell in cells))
    return drawn


def _narrow(content: Table, column: int) -> str:
    """Return a head in lines about as wide as its cells."""
    lines, cells = content.head[column].splitlines(), (row[column].text for row in content.rows)
    width = max(_NARROWEST, *map(len, cells), *(len(word) for line in lines for word in line.split()))
    return "\n".join(part for line in lines for part in wrap(line, width))


def run_command(task: Callable[[Sequence[str], Console], None], usage: str) -> None:
    """Run a command without a configuration.

    Invalid input ends in one line and exit status 2.

    Args:
        task: Called with the arguments; raises ValueError or OSError for invalid input.
        usage: Text of --help.
    """

    def run_arguments(arguments: list[str]) -> None:
        if not arguments:
            raise ValueError("no arguments; see --help")
        task(arguments, Console())

    command_line.run(run_arguments, sys.argv[1:], one_line, usage=usage)
