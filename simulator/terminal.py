"""Tables on the terminal."""

from rich.console import Console, RenderableType

WIDTH = 170


def print_wide(table: RenderableType, console: Console) -> None:
    """Print a table; in a pipe as wide as it likes, because one that is cut to a width would lose figures."""
    (console if console.is_terminal else Console(width=max(console.width, WIDTH))).print(table)
