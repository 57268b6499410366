"""Ties a process to the one that started it."""

import os
import threading
from collections.abc import Callable


def when_parent_closes(action: Callable[[], object]) -> None:
    """Call a function when standard input is closed.

    It is closed by the parent, or when the parent ends.

    Args:
        action: Called in a thread of its own.
    """
    threading.Thread(target=_wait, args=(action,), daemon=True).start()


def _wait(action: Callable[[], object]) -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock would be held at the end of the process
        continue
    action()


def pin(core: int) -> None:
    """Run this process on one core; any core if it is negative."""
    if core >= 0:
        os.sched_setaffinity(0, {core})
