"""Wide terminal tables, and the entry point of commands without a configuration."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType

from simulator.config import one_line
from traces.shared import command_line

WIDTH = 170


def print_wide(table: RenderableType, console: Console) -> None:
    """Print a table without cutting off numbers.

    A pipe counts as at least `WIDTH` characters wide.
    """
    (console if console.is_terminal else Console(width=max(console.width, WIDTH))).print(table)


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
