"""Ends a command within a second of Ctrl-C or SIGTERM, from its first import to its last file.

While a command is importing there is nothing to lose, and it ends at once. Later `Interrupted` is raised. Code of
others may swallow an exception, or not come back to Python for a while; so it is raised once more, and then the process
ends without waiting for anything.
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
_AGAIN_S, _AT_LAST_S = 0.35, 0.35
_PR_SET_PDEATHSIG = 1


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; libraries treat it as they treat Ctrl-C."""


class _State:
    """What this process knows of signals.

    Attributes:
        received: Number of the signal that ends this command; None: none has come.
        num_raised: How often it was raised.
        can_raise: Whether `Interrupted` would be caught.
        clean_up: What to do before the process ends without further ado.
        before: What signals did before this command began.
    """

    received: int | None = None
    num_raised = 0
    can_raise = False
    clean_up: ClassVar[list[Callable[[], object]]] = []
    before: ClassVar[dict[signal.Signals, Any]] = {}


def listen() -> None:
    """Let Ctrl-C and SIGTERM end this process within a second."""
    for number in _SIGNALS:
        signal.signal(number, _on_alarm if number == signal.SIGALRM else _on_signal)


def begin() -> None:
    """Note that from now on `Interrupted` is caught, until `rest` is called."""
    if threading.current_thread() is not threading.main_thread():
        return  # a program of somebody else, whose main thread gets its signals
    _State.before = {number: signal.getsignal(number) for number in _SIGNALS}
    _State.received, _State.num_raised, _State.can_raise = None, 0, True
    listen()


def exit_status() -> int:
    """Exit status of a command that a signal has ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_State.received or signal.SIGINT)


def was_interrupted() -> bool:
    """Whether a signal has come that is to end this command."""
    return _State.received is not None


def note_interrupt() -> None:
    """Note a `KeyboardInterrupt` that came without a signal."""
    if _State.received is None:
        _State.received = signal.SIGINT


def rest() -> None:
    """Note that the command is ending by itself: nothing is raised any more, signals do what they did before."""
    if not _State.can_raise:
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    _State.can_raise = False
    for number, handler in _State.before.items():
        signal.signal(number, handler)


def remove_at_last(path: Path) -> Callable[[], None]:
    """Have a file removed if the process must end without further ado; call what is returned when it is done with."""

    def remove() -> None:
        path.unlink(missing_ok=True)

    _State.clean_up.append(remove)
    return lambda: _State.clean_up.remove(remove)


def end_with_parent() -> None:
    """Let this process end when the one that started it does, whatever ends that one, and not before.

    Only Linux tells a process of that; elsewhere it goes on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
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
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S if _State.num_raised == 1 else _AT_LAST_S)
    raise Interrupted


def _end_now() -> None:
    """End without waiting for anything: half-written files are removed, processes that were started end too."""
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
    """Processes that a process has started, and those that these have; empty where there is no /proc."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [*_descendants(child), child]
    return found


# As the first import of `python -m PACKAGE`; who uses the packages in a program of their own keeps their handlers.
if sys.argv[:1] == ["-m"]:
    listen()
