"""Exit within a second of Ctrl-C or SIGTERM.

This holds from the first import to the last file. During imports there is nothing to clean up, and the process exits
at once. Later, `Interrupted` is raised. A library may swallow the exception, or not return to Python for a while; so it
is raised a second time, and then the process exits without waiting.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
_SECOND_RAISE_S, _FORCED_EXIT_S = 0.35, 0.35  # since the signal, and since the second raise
_PR_SET_PDEATHSIG = 1


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; a KeyboardInterrupt, so that libraries treat it like Ctrl-C."""


class _State:
    """Signal state of this process.

    Attributes:
        received: Number of the signal that ends the command; None: none was received.
        num_raised: How often `Interrupted` was raised.
        can_raise: Whether `Interrupted` would be caught.
        clean_up: Called before a forced exit.
        before: Signal handlers before the command started.
    """

    received: int | None = None
    num_raised = 0
    can_raise = False
    clean_up: ClassVar[list[Callable[[], object]]] = []
    before: ClassVar[dict[signal.Signals, Any]] = {}


def listen() -> None:
    """Set the signal handlers."""
    for number in _SIGNALS:
        signal.signal(number, _on_alarm if number == signal.SIGALRM else _on_signal)


def install_handlers() -> None:
    """Set the signal handlers; until `restore_handlers`, the caller catches `Interrupted`."""
    if threading.current_thread() is not threading.main_thread():
        return  # called by another program, whose main thread receives the signals
    _State.before = {number: signal.getsignal(number) for number in _SIGNALS}
    _State.received, _State.num_raised, _State.can_raise = None, 0, True
    listen()


def exit_status() -> int:
    """Return the exit status: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_State.received or signal.SIGINT)


def was_interrupted() -> bool:
    """Return whether a signal that ends the command was received."""
    return _State.received is not None


def note_interrupt() -> None:
    """Record a `KeyboardInterrupt` that was raised without a signal."""
    if _State.received is None:
        _State.received = signal.SIGINT


def restore_handlers() -> None:
    """Restore the signal handlers that `install_handlers` replaced, and stop raising `Interrupted`."""
    if not _State.can_raise:
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    _State.can_raise = False
    for number, handler in _State.before.items():
        signal.signal(number, handler)


def remove_on_forced_exit(path: Path) -> Callable[[], None]:
    """Register a file for removal on a forced exit.

    Returns:
        A function that cancels this.
    """

    def remove() -> None:
        path.unlink(missing_ok=True)

    _State.clean_up.append(remove)
    return lambda: _State.clean_up.remove(remove)


def end_with_parent() -> None:
    """End this process when its parent ends, and not earlier.

    Why the parent ends does not matter. Only Linux supports this; elsewhere the process outlives its parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both processes
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _on_signal(number: int, _: FrameType | None) -> None:
    if _State.received is not None and _State.num_raised > 1:
        _end_now()
    _State.received = number
    if not _State.can_raise:
        _end_now()
    _raise()


def _on_alarm(_: int, __: FrameType | None) -> None:
    if _State.num_raised > 1:
        _end_now()
    _raise()


def _raise() -> None:
    _State.num_raised += 1
    signal.setitimer(signal.ITIMER_REAL, _SECOND_RAISE_S if _State.num_raised == 1 else _FORCED_EXIT_S)
    raise Interrupted


def _end_now() -> None:
    """Remove partial files, kill all descendant processes, and exit at once."""
    for clean_up in list(_State.clean_up):
        with contextlib.suppress(OSError):
            clean_up()
    for process in _descendants(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(exit_status())


def _descendants(process: int) -> list[int]:
    """Return the processes below a process, deepest first; empty without /proc."""
    descendants: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                descendants += [*_descendants(child), child]
    return descendants


# Only during the imports of a command, started by `python -m` or by its script; a program that imports the packages
# keeps its own handlers.
if [os.path.basename(name) for name in sys.argv[:1]] in (["-m"], ["llmsim"]):
    listen()
