"""Exit of every command: success, a one-line error, or an interrupt."""

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from traces.shared import interruption
from traces.shared.user_code import user_place

DEBUG = "debug=true"
_CONFIGURATION = ("click", "hydra", "omegaconf", "yaml")  # packages whose errors are mistakes of the user
_DEBUG_VARIABLE = "LLM_SIMULATOR_DEBUG"  # inherited by the processes of jobs
_shown: dict[str, str] = {}  # other names of commands, by `python -m MODULE`


@contextmanager
def showing_commands_as(names: Mapping[str, str]) -> Iterator[None]:
    """Show commands by other names in help and errors.

    Args:
        names: Name of each command that the user may call, by `python -m MODULE`.
    """
    _shown.update(names)
    try:
        yield
    finally:
        _shown.clear()


def as_called(text: str) -> str:
    """Return a text with commands named as the user called this one."""
    return re.sub(r"python -m [\w.]*\w", lambda match: _shown.get(match[0], match[0]), text)


def plain_line(error: BaseException) -> str:
    """Return an error message in one line, with control characters escaped."""
    text = str(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.strerror}: {os.fspath(error.filename)!s}"
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Return a text with control characters escaped."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def is_debugging() -> bool:
    """Return whether debug=true was given."""
    return bool(os.environ.get(_DEBUG_VARIABLE))


def error_line(error: BaseException, one_line: Callable[[Exception], str] = plain_line) -> tuple[str, int]:
    """Return the line and the exit status for an error.

    With debug=true, also print the traceback.

    Args:
        error: The error.
        one_line: Returns the message of a user's mistake.

    Returns:
        The line, and the exit status: 2 for a mistake of the user, in input or in code of their own, and 1 for an
        internal error.
    """
    if is_debugging():
        traceback.print_exception(error)
    if isinstance(error, RecursionError):
        return "the input is nested too deeply, or refers to itself", 2
    if isinstance(error, MemoryError):
        return "there is not enough memory", 2
    place = user_place(error)
    if place is not None:
        return f"{place}: {type(error).__name__}: {plain_line(error) or 'no message'}", 2
    package = type(error).__module__.partition(".")[0]
    if isinstance(error, ValueError | OSError) or package in _CONFIGURATION:
        assert isinstance(error, Exception)
        return printable(" ".join(one_line(error).split())) or type(error).__name__, 2
    hint = "" if is_debugging() else f"; {DEBUG} shows where"
    return f"{type(error).__name__}: {plain_line(error) or 'no message'} (an internal error{hint})", 1


def take_debug(arguments: list[str]) -> list[str]:
    """Remove debug=true or debug=false from the arguments, and apply it.

    Returns:
        The other arguments.

    Raises:
        ValueError: The value of debug is neither true nor false.
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


def _is_closed_pipe(error: BaseException) -> bool:
    """Return whether the reader has closed the output, as head does.

    rich turns the error into a SystemExit of status 1.
    """
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)
    )


def without_reader() -> int:
    """Discard further output and return the exit status.

    It is that of a process that SIGPIPE killed. Other programs end in this way, without a message. Python's flush at
    exit must not fail either.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def run(
    task: Callable[[list[str]], int | None],
    arguments: list[str],
    one_line: Callable[[Exception], str] = plain_line,
    on_interrupt: Callable[[], str] = lambda: "",
    usage: str = "",
) -> None:
    """Run a command; print its error or interrupt in one line.

    Args:
        task: Called with the arguments; returns the exit status, or None for 0.
        arguments: Arguments of the command line.
        one_line: Returns the message of a user's mistake.
        usage: Text of --help; empty: the task prints it.
        on_interrupt: Called after an interrupt; returns a line about what remains.

    Raises:
        SystemExit: With a status other than 0: 1 for an internal error, 2 for invalid input, 130 after Ctrl-C,
            141 if the reader of the output went away, 143 after SIGTERM.
    """
    interruption.install_handlers()
    status: int | None = 0
    try:
        if usage and ("--help" in arguments or "-h" in arguments):
            print(as_called(usage))
        else:
            status = task(take_debug(arguments))
        print(end="", flush=True)  # raises here what would fail at exit
    except BaseException as error:
        is_closed = _is_closed_pipe(error)
        if isinstance(error, SystemExit) and not is_closed and not interruption.was_interrupted():
            raise
        if isinstance(error, KeyboardInterrupt):
            interruption.note_interrupt()
        if is_closed:
            status = without_reader()
        elif not interruption.was_interrupted():
            text, status = error_line(error, one_line)
            print(f"error: {as_called(text)}", file=sys.stderr)
    interruption.restore_handlers()
    if interruption.was_interrupted():
        remark = on_interrupt()
        print(f"interrupted{f': {remark}' if remark else ''}", file=sys.stderr)
        status = interruption.exit_status()
    if status:
        sys.exit(status)
