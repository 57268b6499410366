"""Imports between packages: one table of allowed imports, no cycles, few layers, public names only."""

import ast
import sys
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.helpers import REPOSITORY

# Package or file: what it may import besides itself, NumPy and the standard library. The longest matching name counts.
TABLE = {
    "traces.shared": "click matplotlib psutil rich",
    "traces": "traces.shared",
    "traces.arrivals": "traces traces.shared scipy",
    "traces.readers": "traces traces.shared traces.arrivals pandas pyarrow tokenizers",
    "traces.generators": "traces traces.shared traces.readers scipy",
    "traces.tools": "traces traces.shared traces.arrivals traces.generators matplotlib pandas pyarrow rich yaml",
    "traces.__main__": "traces traces.shared traces.generators traces.readers traces.tools rich yaml",
    "simulator.core": "",
    "simulator.shipped": "",
    "simulator.log": "",
    "simulator.model": "traces.shared",
    "simulator.kv_cache": "traces",
    "simulator.replica": "simulator.kv_cache simulator.log",
    "simulator.schedulers": "simulator.replica traces.shared",
    "simulator.routers": "simulator.replica",
    "simulator.iteration_time": "simulator.model simulator.replica traces.shared",
    "simulator.engine": "simulator.iteration_time simulator.log simulator.replica simulator.schedulers traces.shared"
    " simpy",
    "simulator.results": "simulator.iteration_time simulator.log simulator.model traces traces.shared pandas",
    "simulator.cluster": "simulator.engine simulator.iteration_time simulator.kv_cache simulator.log simulator.model"
    " simulator.replica simulator.routers simulator.schedulers traces traces.shared simpy",
    "simulator.cluster.parts": "simulator.log simulator.routers traces traces.shared joblib ray",
    "simulator.cluster.collect": "simulator.engine simulator.log simulator.replica simulator.results traces",
    "simulator.invariants": "simulator.kv_cache simulator.log simulator.replica simulator.results",
    "simulator.output": "simulator.iteration_time simulator.log simulator.model simulator.results simulator.shipped"
    " traces traces.shared perfetto pyarrow",
    "simulator.simulation": "simulator.cluster simulator.core simulator.invariants simulator.log"
    " simulator.replica simulator.results"
    " simulator.routers traces",
    "simulator.config": "simulator.cluster simulator.core simulator.output simulator.replica simulator.results"
    " simulator.shipped"
    " traces traces.shared hydra omegaconf yaml",
    "simulator.launch": "simulator.cluster simulator.config simulator.model traces traces.shared omegaconf yaml",
    "simulator.cli": "simulator.config simulator.output simulator.results traces.shared filelock hydra omegaconf rich",
    "simulator.plot": "simulator.model simulator.output simulator.results traces.shared matplotlib",
    "simulator.plot.typical_batches": "simulator.config simulator.iteration_time simulator.model simulator.replica"
    " simulator.results hydra omegaconf",
    "simulator.plot.__main__": "simulator.cli simulator.config simulator.output traces.shared rich",
    "simulator.capacity": "simulator.cli simulator.cluster simulator.config simulator.launch simulator.output"
    " simulator.replica simulator.results simulator.simulation traces traces.shared hydra omegaconf rich scipy",
    "simulator.accuracy": "simulator.cli simulator.config simulator.simulation traces.shared joblib rich",
    "simulator.compare": "simulator.cli simulator.output simulator.plot simulator.results traces.shared rich",
    "simulator.token_budget": "simulator.capacity simulator.cli simulator.cluster simulator.config"
    " simulator.iteration_time simulator.launch simulator.output simulator.plot simulator.replica traces.shared"
    " omegaconf rich",
    "simulator.search": "simulator.capacity simulator.cli simulator.cluster simulator.config simulator.iteration_time"
    " simulator.launch simulator.model simulator.plot simulator.results simulator.simulation traces"
    " traces.shared filelock hydra omegaconf rich",
    "simulator.report": "simulator.cli simulator.config simulator.output simulator.plot simulator.results traces.shared"
    " bokeh jinja2 markupsafe rich",
    "simulator.reproduce": "simulator.capacity simulator.cli simulator.config simulator.iteration_time"
    " simulator.replica simulator.simulation traces.shared joblib matplotlib rich",
    "simulator.predict": "simulator.cli simulator.config simulator.iteration_time simulator.launch simulator.model"
    " simulator.plot simulator.output simulator.replica simulator.results traces.shared omegaconf rich",
    "simulator.__main__": "simulator.cli simulator.config simulator.core simulator.launch simulator.output"
    " simulator.results"
    " simulator.simulation traces.shared omegaconf rich",
    "simulator.schema": "simulator.config traces.shared",
    "simulator.console": "simulator.shipped traces.shared click yaml",
    "simulator": "simulator.cluster simulator.config simulator.core simulator.output simulator.results"
    " simulator.shipped"
    " simulator.simulation traces.shared",
    "profiling.tables": "traces.* pandas rich",
    "profiling.device": "profiling.tables simulator.*",
    "profiling.options": "profiling.device click",
    "profiling.commands": "profiling.evaluate profiling.fit profiling.options profiling.tables traces.* click pandas",
    "profiling.front_end": "profiling.device profiling.tables traces.* click pandas scipy tokenizers",
    "profiling.importers": "profiling.options profiling.tables simulator.model click pandas yaml",
    "profiling.serving": "profiling.device profiling.options profiling.tables simulator.* traces.* click pandas",
    "profiling.measure": "profiling.device profiling.options profiling.serving profiling.tables simulator.* traces.*"
    " click pandas rich torch",
    "profiling.fit": "profiling.measure profiling.tables simulator.* pandas rich scipy sklearn",
    "profiling.evaluate": "profiling.fit profiling.tables simulator.* traces.* pandas scipy sklearn",
    "profiling.validate": "profiling.fit profiling.options profiling.serving profiling.tables simulator.* traces.*"
    " click pandas",
    "profiling.campaign": "profiling.device profiling.measure profiling.options profiling.serving profiling.validate"
    " simulator.* traces.* click",
    "profiling.__main__": "traces.* click",
    "profiling": "traces.shared",
}
MAX_LAYERS = 10
# Packages whose modules are imported directly: each module is a separate tool.
TOOLS = ("traces.shared", "traces.tools", "simulator.cli", "profiling")


def modules() -> list[str]:
    """Return the dotted names of all modules; a package has the name of its folder."""
    paths = [
        path for name in ("traces", "simulator", "profiling") for path in sorted((REPOSITORY / name).rglob("*.py"))
    ]
    return [".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__") for path in paths]


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the absolute names of the modules that a module imports, inside functions too."""
    folder = REPOSITORY.joinpath(*module.split("."))
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            exported = exports_of(node.module)
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in KNOWN and alias.name not in exported else node.module)
    return frozenset(names)


@cache
def exports_of(package: str) -> frozenset[str]:
    """Return the names in `__all__` of a package of the project, none for other modules."""
    path = REPOSITORY.joinpath(*package.split("."), "__init__.py")
    if package not in KNOWN or not path.is_file():
        return frozenset()
    assignments = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    lists = [node.value for node in assignments if ast.unparse(node.targets[0]) == "__all__"]
    return frozenset(name for values in lists for name in ast.literal_eval(values))


KNOWN = frozenset(modules())


def row_of(module: str) -> str:
    """Return the most specific row of the table for a module."""
    return max((row for row in TABLE if f"{module}.".startswith(f"{row}.")), key=len)


def package_of(module: str) -> str:
    """Return the package of a module: traces, profiling, or a package or module of simulator."""
    top, _, rest = module.partition(".")
    folder = f"{top}.{rest.partition('.')[0]}"
    is_package = top == "simulator" and rest and (REPOSITORY / folder.replace(".", "/")).is_dir()
    return folder if is_package else module if top == "simulator" else top


def room_of(module: str) -> str:
    """Return the package of a module, with those in traces and profiling told apart: at most two names."""
    return ".".join(row_of(module).split(".")[:2])


def arrows() -> Iterator[tuple[str, str]]:
    """Yield pairs of a module and a module of the project that it imports."""
    yield from ((module, name) for module in modules() for name in imports_of(module) if name in KNOWN)


@pytest.mark.parametrize("module", modules())
def test_imports_are_in_the_table(module: str) -> None:
    row = row_of(module)
    assert row not in ("simulator", "profiling") or module == row, f"{module} belongs into a package"
    allowed = set(TABLE[row].split())
    for name in imports_of(module):
        if name in KNOWN:
            target = row_of(name)
            wildcard = f"{name.partition('.')[0]}.*"
            is_allowed = target in allowed or room_of(target) == room_of(row) or wildcard in allowed
            assert is_allowed, f"{module} imports {name}; {row} may import: {TABLE[row]}"
        elif (library := name.partition(".")[0]) not in sys.stdlib_module_names:
            assert library in {*allowed, "numpy"}, f"{module} imports {library}; {row} may import: {TABLE[row]}"


def test_every_row_is_needed() -> None:
    used = {row: set() for row in TABLE}
    for module in modules():
        row = row_of(module)
        for name in imports_of(module):
            used[row] |= {row_of(name), f"{name.partition('.')[0]}.*"} if name in KNOWN else {name.partition(".")[0]}
    unneeded = {row: sorted(set(TABLE[row].split()) - used[row]) for row in TABLE}
    assert not {row: names for row, names in unneeded.items() if names}


def package_arrows(part_of: Callable[[str], str] = package_of) -> set[tuple[str, str]]:
    """Return pairs of packages; the first imports the second."""
    pairs = {(part_of(module), part_of(name)) for module, name in arrows()}
    return {(above, below) for above, below in pairs if above != below}


def layers(part_of: Callable[[str], str] = package_of) -> dict[str, int]:
    """Return the layer of each package and module: one above the highest package that it imports.

    A module adds no layer of its own.

    Args:
        part_of: Returns the package of a module.

    Raises:
        AssertionError: Packages import each other in a cycle.
    """
    imported: dict[str, set[str]] = {}
    for above, below in package_arrows(part_of):
        imported.setdefault(above, set()).add(below)
        imported.setdefault(below, set())
    known: dict[str, int] = {}

    def layer_of(package: str, above: tuple[str, ...] = ()) -> int:
        assert package not in above, f"cycle: {' -> '.join([*above, package])}"
        if package not in known:
            layer = max((layer_of(below, (*above, package)) for below in imported[package]), default=0)
            known[package] = layer + (REPOSITORY / package.replace(".", "/")).is_dir()
        return known[package]

    return {package: layer_of(package) for package in sorted(imported)}


def test_packages_form_no_cycle_and_few_layers() -> None:
    for part_of in (room_of, str):  # raises where there is a cycle, of packages or of modules
        assert set(layers(part_of)) <= {part_of(module) for module in modules()}
    assert max(layers().values()) <= MAX_LAYERS


def test_packages_are_imported_through_their_public_names() -> None:
    files = [
        f"{module} imports {name}"
        for module, name in arrows()
        if (owner := ".".join(name.split(".")[:2])) in KNOWN
        and owner != name
        and not f"{module}.".startswith(f"{owner}.")
        and not owner.startswith(TOOLS)
    ]
    assert not files
