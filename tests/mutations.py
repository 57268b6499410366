"""Plants faults in the schedulers, the replica and the metrics, one line at a time, and counts which the laws catch.

    python -m tests.mutations [number=60] [seed=0] [laws=all|check] [part=0/1]

Faults are drawn from all places where one of these changes makes another program: a comparison that includes or leaves
out the equal case or is turned round, plus for minus, a number that is one more, `and` for `or`, a `not` or a statement
that is gone. Checks of ranges, defaults and messages of errors are left out: no law is about them. Each
faulty simulator runs in a process of its own; what it does not catch within a time limit hangs, which counts as caught.
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

REPOSITORY = Path(__file__).parent.parent
POLICIES = ("base", "sarathi", "vllm", "orca", "faster_transformer", "chunked_prefills")
TARGETS = [
    *(f"replica/{name}.py" for name in ("replica", "decode_set", "batch")),
    "results/latency.py",
    "results/tokens.py",
    *(f"schedulers/{name}.py" for name in POLICIES),
]
TIME_LIMIT_S = 60
# What a fault here changes is not what happens but how fast: the engine asks more often than it must.
SPEED_ONLY = ("repeats", "until_arrival", "exhausted", "has_ties", "min(left) - 1")
# What a fault here changes is nothing: one decode set more that nobody is in, the smaller one of two equal numbers, one
# more of the thousand times that a request is preempted in vain before it counts as stuck, the order of one request,
# and what is overwritten before anybody reads it.
NOTHING = (
    "range(num_stages + 1)", "if remaining < room else room", "first.num_requests < second.num_requests",
    "num_futile_preemptions", "len(paused) > 1", "self.undone = 0",
)  # fmt: skip
_SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One changed line.

    Attributes:
        path: File, from the repository.
        line: Number of the line.
        before: What it was.
        after: What it is.
        source: The whole file with the fault.
    """

    path: str
    line: int
    before: str
    after: str
    source: str


# Where a fault can be planted: file, function, node in it, and which of its changes.
Place = tuple[Path, int, int, int]


def places_of(path: Path) -> Iterator[Place]:
    """Yield every place of a file where a fault can be planted."""
    text = path.read_text()
    for place, function in enumerate(_functions(ast.parse(text))):
        if function.name == "__post_init__" or function.name.startswith("require"):
            continue
        for number, node in enumerate(ast.walk(function)):
            if _counts(node, function, text.splitlines()):
                yield from ((path, place, number, change) for change, _ in enumerate(_changes(node)))


def planted(place: Place) -> Fault:
    """Plant a fault."""
    path, function, number, change = place
    tree = ast.parse(path.read_text())
    node = list(ast.walk(_functions(tree)[function]))[number]
    before, changed = ast.unparse(node), list(_changes(node))[change]

    class Change(ast.NodeTransformer):
        def visit(self, one: ast.AST) -> ast.AST:
            return ast.copy_location(changed, one) if one is node else self.generic_visit(one)

    source = ast.unparse(ast.fix_missing_locations(Change().visit(tree)))
    name = path.relative_to(REPOSITORY).as_posix()
    return Fault(name, getattr(node, "lineno", 0), before, ast.unparse(changed), source)


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _counts(node: ast.AST, function: ast.FunctionDef, lines: list[str]) -> bool:
    """Whether a change of a node could be noticed by a law."""
    line = getattr(node, "lineno", 0)
    silent = [one for one in ast.walk(function) if isinstance(one, ast.Raise)]
    if any(one.lineno <= line <= (one.end_lineno or 0) for one in silent):
        return False
    heads = [function.args, *function.decorator_list, *([function.returns] if function.returns else [])]
    if any(node is part for head in heads for part in ast.walk(head)):
        return False
    if isinstance(node, ast.Constant) and node.value is True and "strict=True" in lines[line - 1]:
        return False
    return not any(word in lines[line - 1] for word in (*SPEED_ONLY, *NOTHING))


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node can be changed to."""
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


def all_places() -> list[Place]:
    """Every place of every file."""
    return [place for target in TARGETS for place in places_of(REPOSITORY / "simulator" / target)]


class _Planter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a source of our own."""

    def __init__(self, fault: Fault) -> None:
        self.module = fault.path.removesuffix(".py").replace("/", ".")
        self.fault = fault

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        return importlib.util.spec_from_loader(name, self) if name == self.module else None

    def exec_module(self, module: object) -> None:
        exec(compile(self.fault.source, self.fault.path, "exec"), module.__dict__)


def is_caught(fault: Fault, laws: str) -> bool:
    """Run the laws on a faulty simulator, in a process of its own."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
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
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def caught_of(number: int, seed: int, laws: str, part: str = "0/1") -> tuple[list[Fault], list[Fault]]:
    """Plant faults, and return those that were caught and those that were not.

    Args:
        number: Faults to draw.
        seed: Seed of the draw.
        laws: Which laws are run: all, or check (those of check=true).
        part: "k/n": every n-th of the faults from number k on, so that n processes can share them.
    """
    import hypothesis  # noqa: F401  # once, not in every process
    import matplotlib.figure  # noqa: F401

    import tests.laws  # noqa: F401

    every = all_places()
    chosen = [planted(place) for place in random.Random(seed).sample(every, min(number, len(every)))]
    first, step = map(int, part.split("/"))
    outcome = [(fault, is_caught(fault, laws)) for fault in chosen[first::step]]
    return [fault for fault, caught in outcome if caught], [fault for fault, caught in outcome if not caught]


def main() -> None:
    """Run the command line."""
    os.environ["LLM_SIMULATOR_CHECK"] = "1"
    options = {"number": "60", "seed": "0", "laws": "all", "part": "0/1"} | dict(
        one.split("=", 1) for one in sys.argv[1:]
    )
    caught, missed = caught_of(int(options["number"]), int(options["seed"]), options["laws"], options["part"])
    for fault in missed:
        print(f"not caught: {fault.path}:{fault.line}: {fault.before} -> {fault.after}")
    total = len(caught) + len(missed)
    print(f"{len(caught)} of {total} faults caught ({len(caught) / total:.1%}), of {len(all_places())} that there are")


if __name__ == "__main__":
    main()
