"""Progress bar of a command that takes a known number of steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def step_bar(num_steps: int) -> Iterator[Callable[[str], None]]:
    """Show a bar on the terminal, and yield its step function.

    It is called with the name of each step before it begins.

    In a pipe, nothing is shown.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=num_steps)
        begun = False

        def step(name: str) -> None:
            nonlocal begun
            progress.update(task, description=name, advance=int(begun))
            begun = True

        yield step
        progress.update(task, description="done", completed=num_steps)
