"""Stops a policy that never returns."""

import ctypes
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

from simulator.schedulers import Scheduler
from traces.shared.user_code import line_of

LIMIT_S = 10.0  # a call takes microseconds


class EndlessCallError(Exception):
    """Raised in a thread whose policy does not return."""


@contextmanager
def stop_endless_calls(policies: Iterable[Scheduler]) -> Iterator[None]:
    """Stop a call of a policy that takes longer than `LIMIT_S`.

    A debugger switches this off.

    Raises:
        ValueError: A policy did not return; the message names the line where it was.
    """
    watch = _Watch({type(policy).schedule.__code__: type(policy).__name__ for policy in policies})
    if sys.gettrace() is None:
        watch.start()
    try:
        yield
    except EndlessCallError:
        raise ValueError(watch.message) from None
    finally:
        watch.over.set()


class _Watch(threading.Thread):
    """Looks at the simulating thread from time to time.

    Attributes:
        over: Set when the simulation has ended.
        message: What was found.
    """

    def __init__(self, names: dict[CodeType, str]) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.message = ""
        self._names = names
        self._watched = threading.get_ident()

    def run(self) -> None:
        """Watch until the simulation ends, or a call takes too long."""
        call, since_s = None, time.monotonic()
        while not self.over.wait(LIMIT_S / 10):
            frame = self._call_of_policy()
            if frame is None or frame is not call:
                call, since_s = frame, time.monotonic()
            elif time.monotonic() - since_s > LIMIT_S:
                name = self._names[frame.f_code]
                self.message = f"{self._place(frame)}: {name}.schedule has not returned for {LIMIT_S:g} s"
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._watched), ctypes.py_object(EndlessCallError)
                )
                return

    def _call_of_policy(self) -> FrameType | None:
        frame = sys._current_frames().get(self._watched)
        while frame is not None and frame.f_code not in self._names:
            frame = frame.f_back
        return frame

    def _place(self, call: FrameType) -> str:
        """Return the innermost line in the file of the policy."""
        file, frame = call.f_code.co_filename, sys._current_frames().get(self._watched)
        while frame is not None and frame.f_code.co_filename != file:
            frame = frame.f_back
        return line_of(file, (frame or call).f_lineno)
