"""The compiled core: modules of the hot loop, compiled by Cython.

The core is used as a whole or not at all: only if all its modules were compiled from the present files. What a process
uses does not change once a module of the core is imported. Importing this package makes Python find the compiled
modules.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

from simulator.core.sources import FOLDER, PACKAGE, SUFFIX, digests, file_of, why_not_compiled

__all__ = ["AUTO", "CHOICES", "COMPILED", "PYTHON", "VARIABLE", "in_use", "require"]

AUTO, PYTHON, COMPILED = CHOICES = "auto", "python", "compiled"
# Environment variable: the choice for a process and its children.
VARIABLE = "LLM_SIMULATOR_CORE"


class _Finder(MetaPathFinder):
    """Finds the compiled modules."""

    def __init__(self) -> None:
        self._in_use = ""  # no module of the core was imported yet
        self._modules: frozenset[str] = frozenset()

    def find_spec(self, name: str, _: Sequence[str] | None, __: ModuleType | None = None) -> ModuleSpec | None:
        """Return the compiled module of this name; None: Python's own."""
        if not name.startswith(f"{PACKAGE.name}.") or not (self._in_use or file_of(name).with_suffix(".pxd").exists()):
            return None
        self.choose()
        if name not in self._modules:
            return None
        file = str(FOLDER / f"{name}{SUFFIX}")
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))

    def choose(self) -> str:
        """Choose the core of this process, once; return it."""
        if not self._in_use:
            is_compiled = os.environ.get(VARIABLE) != PYTHON and not why_not_compiled()
            self._in_use = COMPILED if is_compiled else PYTHON
            self._modules = frozenset(digests() if is_compiled else ())
        return self._in_use


_FINDER = _Finder()


def in_use() -> str:
    """Return the core of this process: "python" or "compiled"."""
    return _FINDER.choose()


def require(choice: str) -> None:
    """Check that the core in use is the chosen one.

    Args:
        choice: "python", "compiled" or "auto".

    Raises:
        ValueError: It is not, or not that of the environment.
    """
    used = in_use()
    for name, wanted in (("core", choice), (VARIABLE, os.environ.get(VARIABLE) or AUTO)):
        if wanted not in CHOICES:
            raise ValueError(f"{name}={wanted}: choose one of {', '.join(CHOICES)}")
        if wanted == COMPILED != used and (reason := why_not_compiled()):
            raise ValueError(f"{name}={wanted}: {reason}")
        if wanted not in (AUTO, used):
            raise ValueError(
                f"{name}={wanted}: this process has loaded the {used} core; give core={wanted} on the command line, "
                f"or set {VARIABLE}={wanted} before it starts"
            )


def _choice_of_command_line() -> str | None:
    """Return the value of an argument `core=`; None: there is none."""
    choices = [argument.removeprefix("core=") for argument in sys.argv[1:] if argument.startswith("core=")]
    return choices[-1] if choices and choices[-1] in CHOICES else None


if (_choice := _choice_of_command_line()) is not None:
    os.environ[VARIABLE] = _choice
sys.meta_path.insert(0, _FINDER)
