"""Plant faults in the schedulers, the replica and the metrics, one at a time, and count those that the laws catch.

    python -m tests.mutations [number=60] [seed=0] [laws=all|check] [part=0/1]

A fault is one change of the syntax tree: a comparison includes or excludes the equal case or is negated, plus becomes
minus, an integer grows by one, `and` becomes `or`, a `not` or a statement is removed. Faults are drawn from all sites
where such a change is possible. Range checks, checks of a policy's mistakes, defaults and error messages are
excluded: no law is about them. Each faulty simulator runs in its own process; one that does not end within the time
limit counts as caught.
"""

import ast
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

REPOSITORY = Path(__file__).parent.parent
os.environ["LLM_SIMULATOR_CORE"] = "python"  # a fault is planted in the source
POLICIES = ("base", "sarathi", "dynamic_chunks", "vllm", "orca", "faster_transformer", "chunked_prefills")
TARGETS = [
    *(f"replica/{name}.py" for name in ("replica", "in_flight", "decode_set", "batch", "queue")),
    "kv_cache/pool.py",
    "results/latency.py",
    "results/tokens.py",
    *(f"schedulers/{name}.py" for name in POLICIES),
]
TIME_LIMIT_S = 60
# Lines where a fault changes only the speed: the engine asks the policy more often than it must.
SPEED_ONLY = (
    "repeats", "until_arrival", "exhausted", "has_ties", "chunk.num_tokens - 1)",
    "not preempted and not self.dynamic_chunks.stages",
)  # fmt: skip
# Lines where a fault changes nothing: the smaller of two equal numbers, when the thousand futile preemptions after
# which a request counts as stuck are counted anew, the order of a single request, the divisor of an empty array, an
# empty decode set that is not used again, and the eviction of no block.
NOTHING = (
    "if remaining < room else room", "first.num_requests < second.num_requests", "num_futile_preemptions",
    "has_tokens", "len(paused) > 1", "if len(self._cumulative) else 1", "self._idle.append(",
    "self.prefix.num_evictable > self.free_blocks",
)  # fmt: skip
_SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        path: File, relative to the repository.
        line: Line number.
        before: Code without the fault.
        after: Code with the fault.
        source: The whole file with the fault.
    """

    path: str
    line: int
    before: str
    after: str
    source: str


# Where a fault can be planted: file, index of the function, index of the node in it, index of the change of the node.
Site = tuple[Path, int, int, int]


def sites_of(path: Path) -> Iterator[Site]:
    """Yield the sites of a file where a fault can be planted."""
    text = path.read_text()
    for index, function in enumerate(_functions(ast.parse(text))):
        if function.name == "__post_init__" or function.name.startswith("require"):
            continue
        for node_index, node in enumerate(ast.walk(function)):
            if _is_noticeable(node, function, text.splitlines()):
                yield from ((path, index, node_index, change) for change, _ in enumerate(_changes(node)))


def plant(site: Site) -> Fault:
    """Plant a fault at a site."""
    path, function_index, node_index, change = site
    tree = ast.parse(path.read_text())
    node = list(ast.walk(_functions(tree)[function_index]))[node_index]
    before, replacement = ast.unparse(node), list(_changes(node))[change]

    class Change(ast.NodeTransformer):
        def visit(self, candidate: ast.AST) -> ast.AST:
            return ast.copy_location(replacement, candidate) if candidate is node else self.generic_visit(candidate)

    source = ast.unparse(ast.fix_missing_locations(Change().visit(tree)))
    name = path.relative_to(REPOSITORY).as_posix()
    return Fault(name, getattr(node, "lineno", 0), before, ast.unparse(replacement), source)


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _is_noticeable(node: ast.AST, function: ast.FunctionDef, lines: list[str]) -> bool:
    """Return whether a law could notice a change of a node."""
    line = getattr(node, "lineno", 0)
    statements = list(ast.walk(function))
    raises = [statement for statement in statements if isinstance(statement, ast.Raise) or _only_raises(statement)]
    if any(statement.lineno <= line <= (statement.end_lineno or 0) for statement in raises):
        return False
    heads = [function.args, *function.decorator_list, *([function.returns] if function.returns else [])]
    if any(node is part for head in heads for part in ast.walk(head)):
        return False
    if isinstance(node, ast.Constant) and node.value is True and "strict=True" in lines[line - 1]:
        return False
    return not any(word in lines[line - 1] for word in (*SPEED_ONLY, *NOTHING))


def _only_raises(node: ast.AST) -> TypeGuard[ast.If]:
    """Return whether a statement does nothing but raise an error if a condition holds."""
    return isinstance(node, ast.If) and not node.orelse and isinstance(node.body[0], ast.Raise)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the changed versions of a node."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPPED:
        yield ast.Compare(node.left, [_SWAPPED[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in _SWAPPED:
        yield ast.BinOp(node.left, _SWAPPED[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign) and type(node.op) in _SWAPPED:
        yield ast.AugAssign(node.target, _SWAPPED[type(node.op)](), node.value)
        yield ast.Pass()
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(_SWAPPED[type(node.op)](), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Delete) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()


def all_sites() -> list[Site]:
    """Return the sites of all target files."""
    return [site for target in TARGETS for site in sites_of(REPOSITORY / "simulator" / target)]


class _Planter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that loads one module with a planted fault."""

    def __init__(self, fault: Fault) -> None:
        self.module = fault.path.removesuffix(".py").replace("/", ".")
        self.fault = fault

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        return importlib.util.spec_from_loader(name, self) if name == self.module else None

    def exec_module(self, module: object) -> None:
        exec(compile(self.fault.source, self.fault.path, "exec"), module.__dict__)


def is_caught(fault: Fault, laws: str) -> bool:
    """Return whether the laws catch a fault; they run in a forked process."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            for signal_number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signal_number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            sys.meta_path.insert(0, _Planter(fault))
            for name in [name for name in sys.modules if name.split(".")[0] in ("simulator", "tests")]:
                del sys.modules[name]
            module = importlib.import_module("tests.laws")
            {"all": module.check_all, "check": module.check_alone}[laws]()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + TIME_LIMIT_S
    while time.monotonic() < deadline:
        ended_pid, status = os.waitpid(process, os.WNOHANG)
        if ended_pid:
            return status != 0
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def plant_and_check(number: int, seed: int, laws: str, part: str = "0/1") -> tuple[list[Fault], list[Fault]]:
    """Plant random faults; return those that the laws caught and those that they missed.

    Args:
        number: Faults to draw.
        seed: Seed of the draw.
        laws: Laws to run: all, or check (those of check=true).
        part: "k/n": every n-th of the drawn faults, beginning at k, so that n processes can share them.
    """
    import hypothesis  # noqa: F401  # imported once, before the forks
    import matplotlib.figure  # noqa: F401

    import tests.laws  # noqa: F401

    sites = all_sites()
    faults = [plant(site) for site in random.Random(seed).sample(sites, min(number, len(sites)))]
    first, step = map(int, part.split("/"))
    outcome = [(fault, is_caught(fault, laws)) for fault in faults[first::step]]
    return [fault for fault, caught in outcome if caught], [fault for fault, caught in outcome if not caught]


def main() -> None:
    """Run the command line."""
    os.environ["LLM_SIMULATOR_CHECK"] = "1"
    options = {"number": "60", "seed": "0", "laws": "all", "part": "0/1"} | dict(
        option.split("=", 1) for option in sys.argv[1:]
    )
    caught, missed = plant_and_check(int(options["number"]), int(options["seed"]), options["laws"], options["part"])
    for fault in missed:
        print(f"not caught: {fault.path}:{fault.line}: {fault.before} -> {fault.after}")
    total = len(caught) + len(missed)
    print(f"{len(caught)} of {total} faults caught ({len(caught) / total:.1%}), drawn from {len(all_sites())}")


if __name__ == "__main__":
    main()
