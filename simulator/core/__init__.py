"""The compiled core: modules of the hot loop, compiled from their own source.

A module with a `.pxd` file beside it belongs to the core. Cython compiles the `.py` file that Python would run, with
the C types that the `.pxd` file declares. The core is used as a whole or not at all: only if all its modules were
compiled from the present files. What a process uses does not change once a module of the core is imported.
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
# Environment variable: the choice for a process and its children.
VARIABLE = "LLM_SIMULATOR_CORE"

FOLDER = Path(__file__).parent
PACKAGE = FOLDER.parent
SUFFIX = EXTENSION_SUFFIXES[0]
MANIFEST = FOLDER / f"manifest{SUFFIX}.json"


def digests() -> dict[str, str]:
    """Return the digest of source and declarations of each module of the core."""
    found = {}
    for declarations in sorted(PACKAGE.rglob("*.pxd")):
        source = declarations.with_suffix(".py")
        name = ".".join((PACKAGE.name, *source.relative_to(PACKAGE).with_suffix("").parts))
        found[name] = hashlib.sha256(source.read_bytes() + declarations.read_bytes()).hexdigest()
    return found


def why_not_compiled() -> str:
    """Return why the compiled core cannot be used; empty: it can."""
    if not MANIFEST.exists():
        return "it was not compiled at installation, which needs a C compiler"
    compiled, present = json.loads(MANIFEST.read_text(encoding="ascii")), digests()
    changed = sorted(name for name in compiled | present if compiled.get(name) != present.get(name))
    return f"{changed[0]} has changed since it was compiled; `make core` compiles it again" if changed else ""


class CoreFinder(MetaPathFinder):
    """Finds the compiled modules of the core.

    Attributes:
        in_use: "python" or "compiled"; empty: no module of the core was imported yet.
    """

    def __init__(self) -> None:
        self.in_use = ""
        self._modules: frozenset[str] = frozenset()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the compiled module of this name; None: there is none, or it is not used."""
        if not name.startswith(f"{PACKAGE.name}.") or not (self.in_use or _is_declared(name)):
            return None
        self.choose()
        if name not in self._modules:
            return None
        file = str(FOLDER / f"{name}{SUFFIX}")
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))

    def choose(self) -> str:
        """Choose the core of this process, once; return it."""
        if not self.in_use:
            is_compiled = os.environ.get(VARIABLE, AUTO) != PYTHON and not why_not_compiled()
            self.in_use = COMPILED if is_compiled else PYTHON
            self._modules = frozenset(digests() if is_compiled else ())
        return self.in_use


def _is_declared(name: str) -> bool:
    return (PACKAGE.parent / Path(*name.split("."))).with_suffix(".pxd").exists()


_finder = CoreFinder()


def install() -> None:
    """Have Python import the compiled modules, if they can be used.

    An argument `core=` of the command line counts like the environment variable, and children inherit it.
    """
    for argument in sys.argv[1:]:
        choice = argument.removeprefix("core=")
        if choice in CHOICES and choice != argument:
            os.environ[VARIABLE] = choice
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def in_use() -> str:
    """Return the core of this process: "python" or "compiled"."""
    return _finder.choose()


def require(choice: str) -> None:
    """Check that a core is the one in use, and so is that of the environment.

    Args:
        choice: "python", "compiled" or "auto".

    Raises:
        ValueError: It is not, and cannot be.
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
