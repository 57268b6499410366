"""Source files of the compiled core, and what was compiled from them.

A module with a `.pxd` file beside it belongs to the core. Cython compiles the `.py` file that Python would run, with
the C types that the `.pxd` file declares.
"""

import hashlib
import json
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

FOLDER = Path(__file__).parent
PACKAGE = FOLDER.parent
SUFFIX = EXTENSION_SUFFIXES[0]
# Digests of the files that were compiled.
MANIFEST = FOLDER / f"manifest{SUFFIX}.json"


def file_of(module: str) -> Path:
    """Return the source file of a module."""
    return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")


def digests() -> dict[str, str]:
    """Return the digest of each module's source and declarations."""
    found = {}
    for declarations in sorted(PACKAGE.rglob("*.pxd")):
        source = declarations.with_suffix(".py")
        name = ".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts)
        found[name] = hashlib.sha256(source.read_bytes() + declarations.read_bytes()).hexdigest()
    return found


def why_not_compiled() -> str:
    """Return why the compiled core cannot be used; empty: it can."""
    if not MANIFEST.exists():
        return "it was not compiled at installation, which needs a C compiler"
    compiled, present = json.loads(MANIFEST.read_text(encoding="ascii")), digests()
    changed = sorted(name for name in compiled | present if compiled.get(name) != present.get(name))
    return f"{changed[0]} has changed since it was compiled; `make core` compiles it again" if changed else ""
