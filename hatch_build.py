"""Build hook: compiles the core of the simulator, if there is a C compiler.

python hatch_build.py     compiles it in place
"""

import ast
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
# The same bytes on every machine: no fused multiply-adds, no instructions of this machine alone.
# -O2 takes half as long again to compile and runs 2 % faster.
C_FLAGS = ["-O1", "-g0", "-ffp-contract=off"]
DIRECTIVES = {
    "language_level": 3,
    "infer_types": True,
    "boundscheck": False,
    "initializedcheck": False,
}


CORE = "simulator.core."
SHARED = f"{CORE}shared_utilities"


def core_sources() -> ModuleType:
    """Return `simulator.core.sources` without importing the simulator."""
    spec = spec_from_file_location("sources", ROOT / "simulator" / "core" / "sources.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_core() -> None:
    """Compile the core in place."""
    from setuptools.dist import Distribution

    core = core_sources()
    digests = core.digests()
    remove_core()
    with tempfile.TemporaryDirectory() as folder:
        extensions = translate(copy_sources([*digests], Path(folder)), Path(folder))
        command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = folder
        command.parallel = True
        command.ensure_finalized()
        command.run()
        for name in (*digests, SHARED):
            shutil.copy(command.get_ext_fullpath(name), core.FOLDER / f"{name.removeprefix(CORE)}{core.SUFFIX}")
    core.MANIFEST.write_text(json.dumps(digests, indent=1), encoding="ascii")


def translate(sources: Mapping[str, Path], folder: Path) -> list[Any]:
    """Translate the modules to C.

    Args:
        sources: Copy of each module.
        folder: Folder of the copies.

    Returns:
        An extension for each module, and one for what Cython generates for all of them.
    """
    from Cython.Build import cythonize
    from setuptools import Extension

    # Classes without declarations take their types from the annotations.
    by_typing: dict[bool, list[Any]] = {True: [], False: [Extension(SHARED, [str(folder / "shared_utilities.c")])]}
    for name, source in sources.items():
        declares = "cdef class" in source.with_suffix(".pxd").read_text(encoding="utf-8")
        by_typing[not declares].append(Extension(name, [str(source)]))
    translated = []
    for annotation_typing, extensions in by_typing.items():
        translated += cythonize(
            extensions,
            include_path=[str(folder)],
            compiler_directives={**DIRECTIVES, "annotation_typing": annotation_typing},
            shared_utility_qualified_name=SHARED,
            nthreads=os.cpu_count() or 1,
            quiet=True,
        )
    for extension in translated:
        extension.extra_compile_args = C_FLAGS
    return translated


def copy_sources(modules: Sequence[str], folder: Path) -> dict[str, Path]:
    """Copy the modules to a folder, with their classes imported from where they are defined.

    Cython knows a class only there; the sources import them from their packages. Nor does it know `list[int]` as a
    base class.

    Returns:
        The copy of each module.
    """
    files = {name: Path(*name.split(".")).with_suffix(".py") for name in modules}
    defined_in = {}
    for name, file in files.items():
        declarations = (ROOT / file).with_suffix(".pxd").read_text(encoding="utf-8")
        defined_in |= dict.fromkeys(re.findall(r"^cdef class (\w+)", declarations, re.MULTILINE), name)
    for file in files.values():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        for package in file.parents:
            (folder / package / "__init__.py").touch()
        shutil.copy((ROOT / file).with_suffix(".pxd"), (folder / file).with_suffix(".pxd"))
        source = (ROOT / file).read_text(encoding="utf-8")
        source = re.sub(r"^(class \w+)\(list\[\w+\]\):", r"\1(list):", source, flags=re.MULTILINE)
        (folder / file).write_text(import_from(defined_in, source), encoding="utf-8")
    (folder / "__init__.py").unlink()
    return {name: folder / file for name, file in files.items()}


def import_from(defined_in: dict[str, str], source: str) -> str:
    """Return a source whose imports of some classes name other modules; its lines keep their numbers."""
    lines = source.split("\n")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and any(alias.name in defined_in for alias in node.names):
            assert node.module is not None
            assert node.end_lineno is not None
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
            lines[node.lineno - 1] = "; ".join(
                f"from {defined_in.get(alias.name, node.module)} import {alias.name}" for alias in node.names
            )
    return "\n".join(lines)


def remove_core() -> None:
    """Remove what was compiled for this version of Python."""
    core = core_sources()
    for file in core.FOLDER.glob(f"*{core.SUFFIX}*"):
        file.unlink()


class CoreHook(BuildHookInterface[Any]):
    """Compiles the core before the wheel is built; without a C compiler, the wheel has Python only."""

    def initialize(self, _: str, build_data: dict[str, Any]) -> None:
        """Compile the core and add it to the wheel."""
        core = core_sources()
        if self.target_name != "wheel" or os.environ.get("LLM_SIMULATOR_CORE") == "python":
            return
        try:
            compile_core()
        except (Exception, SystemExit) as error:  # setuptools may end the process if the compiler fails
            remove_core()
            self.app.display_warning(f"the core is not compiled, runs will be slower: {error}")
            return
        build_data["artifacts"] += [f"simulator/core/*{core.SUFFIX}*"]
        build_data["pure_python"], build_data["infer_tag"] = False, True


if __name__ == "__main__":
    compile_core()
