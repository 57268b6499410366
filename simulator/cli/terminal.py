"""Tables on the terminal, and commands that take no configuration."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType

from simulator.config import one_line
from traces.shared import command_line

WIDTH = 170


def print_wide(table: RenderableType, console: Console) -> None:
    """Print a table; in a pipe as wide as it likes, because one that is cut to a width would lose figures."""
    (console if console.is_terminal else Console(width=max(console.width, WIDTH))).print(table)


def run_command(task: Callable[[Sequence[str], Console], None], usage: str, *, needs_arguments: bool = True) -> None:
    """Run a command that takes no configuration: print its help, or one line and exit status 2 for a mistake.

    Args:
        task: Called with the arguments; raises ValueError or OSError for what the user can mend.
        usage: What --help prints.
        needs_arguments: Whether there is nothing to do without any.
    """

    def told(arguments: list[str]) -> int | None:
        console = Console()
        if "--help" in arguments or "-h" in arguments:
            console.print(usage, highlight=False, markup=False, soft_wrap=True)
            return None
        if needs_arguments and not arguments:
            raise ValueError("there is no argument; see --help")
        task(arguments, console)
        return None

    command_line.run(told, sys.argv[1:], one_line)
