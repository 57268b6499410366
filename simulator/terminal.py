"""Tables on the terminal, and commands that take no configuration."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType

from simulator.errors import one_line

WIDTH = 170


def print_wide(table: RenderableType, console: Console) -> None:
    """Print a table; in a pipe as wide as it likes, because one that is cut to a width would lose figures."""
    (console if console.is_terminal else Console(width=max(console.width, WIDTH))).print(table)


def run_command(task: Callable[[Sequence[str], Console], None], usage: str) -> None:
    """Run a command that takes no configuration: print its help, or one line and exit status 2 for a mistake.

    Args:
        task: Called with the arguments; raises ValueError or OSError for what the user can mend.
        usage: What --help prints.
    """
    arguments = sys.argv[1:]
    console = Console()
    if not arguments or "--help" in arguments or "-h" in arguments:
        console.print(usage, highlight=False, markup=False, soft_wrap=True)
        sys.exit(0 if arguments else 2)
    try:
        task(arguments, console)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {one_line(error)}")
        sys.exit(2)
