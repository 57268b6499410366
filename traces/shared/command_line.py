"""How every command ends: done, with one line about a mistake, or interrupted."""

import os
import sys
import traceback
from collections.abc import Callable

from traces.shared import interruption

DEBUG = "debug=true"
_CONFIGURATION = ("hydra", "omegaconf", "yaml")  # packages whose errors are about what the user wrote
_DEBUG_VARIABLE = "LLM_SIMULATOR_DEBUG"  # of processes that jobs run in


def plain_line(error: BaseException) -> str:
    """Return what a user needs to know of an error, in one line without characters that a terminal would obey."""
    text = str(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.strerror}: {os.fspath(error.filename)!s}"
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Return a text with control characters written out."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def is_debugging() -> bool:
    """Whether tracebacks are wanted."""
    return bool(os.environ.get(_DEBUG_VARIABLE))


def described(error: BaseException, one_line: Callable[[Exception], str] = plain_line) -> tuple[str, int]:
    """Return the line that tells of an error, and the exit status that goes with it: 2 for a mistake, 1 for a fault."""
    if is_debugging():
        traceback.print_exception(error)
    if isinstance(error, RecursionError):
        return "the input is nested too deeply, or refers to itself", 2
    if isinstance(error, MemoryError):
        return "there is not enough memory for that", 2
    package = type(error).__module__.partition(".")[0]
    if isinstance(error, ValueError | OSError) or package in _CONFIGURATION:
        assert isinstance(error, Exception)
        return printable(" ".join(one_line(error).split())) or type(error).__name__, 2
    where = "" if is_debugging() else f"; {DEBUG} shows where"
    return f"{type(error).__name__}: {plain_line(error) or 'no message'} (a fault of the program{where})", 1


def take_debug(arguments: list[str]) -> list[str]:
    """Return the arguments without debug=true, and remember it if it is there.

    Raises:
        ValueError: It has another value than true or false.
    """
    rest = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name.lstrip("+") != "debug" or os.path.exists(argument):
            rest.append(argument)
        elif value not in ("true", "false"):
            raise ValueError(f"debug must be true or false, got {value!r}")
        elif value == "true":
            os.environ[_DEBUG_VARIABLE] = "1"
    return rest


def run(
    task: Callable[[list[str]], int | None],
    arguments: list[str],
    one_line: Callable[[Exception], str] = plain_line,
    on_interrupt: Callable[[], str] = lambda: "",
) -> None:
    """Run a command to its exit.

    Args:
        task: Called with the arguments; returns the exit status, or None for 0.
        arguments: Of the command line.
        one_line: Says what is wrong in one line.
        on_interrupt: Called if it was interrupted; says what is left, in one line.

    Raises:
        SystemExit: With a status other than 0: 1 for a fault of the program, 2 for a mistake in what it was given, 130
            after Ctrl-C and 143 after SIGTERM.
    """
    interruption.begin()
    status: int | None = 0
    try:
        status = task(take_debug(arguments))
    except BrokenPipeError:
        # Who read the output has had enough; what Python flushes at its end must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except BaseException as error:
        if isinstance(error, SystemExit) and not interruption.was_interrupted():
            raise
        if isinstance(error, KeyboardInterrupt):
            interruption.note_interrupt()
        if not interruption.was_interrupted():
            text, status = described(error, one_line)
            print(f"error: {text}", file=sys.stderr)
    interruption.rest()
    if interruption.was_interrupted():
        left = on_interrupt()
        print(f"interrupted{f': {left}' if left else ''}", file=sys.stderr)
        status = interruption.exit_status()
    if status:
        sys.exit(status)
