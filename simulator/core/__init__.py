"""The compiled core: the modules of the hot loop, compiled by Cython from the files that Python would run.

A module with a `.pxd` file beside it is part of the core. The core is used as a whole or not at all: it is used if all
its modules were compiled from the present files. It is installed before anything else of the simulator is imported,
and stays for the life of the process.
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

AUTO, PYTHON, COMPILED = CHOICES = "auto", "python", "compiled"
# Environment variable: the choice for this process.
VARIABLE = "LLM_SIMULATOR_CORE"

FOLDER = Path(__file__).parent
PACKAGE = FOLDER.parent
SUFFIX = EXTENSION_SUFFIXES[0]
MANIFEST = FOLDER / f"manifest{SUFFIX}.json"


class CoreFinder(MetaPathFinder):
    """Finds the compiled modules."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = frozenset(modules)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the compiled module of this name; None: it has none."""
        if name not in self._modules:
            return None
        file = str(FOLDER / f"{name}{SUFFIX}")
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))


def digests(package: Path = PACKAGE) -> dict[str, str]:
    """Return the digest of the source and the declarations of each module of the core."""
    found = {}
    for declarations in sorted(package.rglob("*.pxd")):
        source = declarations.with_suffix(".py")
        name = ".".join((package.name, *source.relative_to(package).with_suffix("").parts))
        found[name] = hashlib.sha256(source.read_bytes() + declarations.read_bytes()).hexdigest()
    return found


def why_not_compiled() -> str:
    """Return why the compiled core cannot be used; empty: it can."""
    if not MANIFEST.exists():
        return "it was not compiled when the simulator was installed (that needs a C compiler)"
    compiled, present = json.loads(MANIFEST.read_text(encoding="ascii")), digests()
    changed = sorted(name for name in compiled | present if compiled.get(name) != present.get(name))
    return f"{changed[0]} has changed since it was compiled; `make core` compiles it again" if changed else ""


def install() -> str:
    """Install the core that the environment chooses.

    Returns:
        The core in use: "python" or "compiled".

    Raises:
        ImportError: The environment names no core, or the compiled one cannot be used.
    """
    choice = os.environ.get(VARIABLE) or AUTO
    if choice not in CHOICES:
        raise ImportError(f"{VARIABLE}={choice}: one of {', '.join(CHOICES)}")
    if choice == PYTHON:
        return PYTHON
    reason = why_not_compiled()
    if not reason:
        sys.meta_path.insert(0, CoreFinder([*digests()]))
        return COMPILED
    if choice == COMPILED:
        raise ImportError(f"{VARIABLE}=compiled: {reason}")
    return PYTHON
