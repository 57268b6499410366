"""Where in the user's own code an error comes from."""

import inspect
import os
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_OURS = Path(__file__).resolve().parents[2]
_PACKAGES = ("benchmarks", "profiling", "simulator", "traces")
_INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]


def place_of(function: Callable[..., Any]) -> str:
    """Return the file and the first line of a function."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return function.__module__ if code is None else line_of(code.co_filename, code.co_firstlineno)


def line_in(error: BaseException, function: Callable[..., Any]) -> str | None:
    """Return the innermost line of user code or a function's file."""
    file = inspect.unwrap(function).__code__.co_filename
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file or _is_users(frame.filename)]
    return line_of(own[-1].filename, own[-1].lineno or 0) if own else None


def user_place(error: BaseException) -> str | None:
    """Return the innermost line of user code in an error's traceback.

    Returns None if there is none.
    """
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    if own:
        return f"{line_of(own[-1].filename, own[-1].lineno or 0)}, in {own[-1].name}"
    return None if error.__cause__ is None else user_place(error.__cause__)


def _is_users(file: str) -> bool:
    path = Path(file)
    if not path.is_file():
        return False  # <string>, <frozen importlib._bootstrap>
    path = path.resolve()
    ours = any(path.is_relative_to(_OURS / package) for package in _PACKAGES)
    return not ours and not any(path.is_relative_to(folder) for folder in _INSTALLED)


def line_of(file: str, line: int) -> str:
    """Return a line of a file as text, relative to here."""
    here = Path(file).is_relative_to(Path.cwd())
    return f"{os.path.relpath(file) if here else file}:{line}"
