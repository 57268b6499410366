"""Signatures of the functions of FlashInfer that this project calls, read from its source without importing it.

for version in 0.6.0 0.7.4; do pip download --no-deps --dest wheels flashinfer-python==$version; done
python -m tests.flashinfer_signatures wheels/*.whl > tests/flashinfer_signatures.json
"""

import ast
import inspect
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

TABLE = Path(__file__).with_suffix(".json")
# Name as called -> module, class and method or function.
CALLED = {
    **{
        f"{wrapper}.{method}": (module, wrapper, method)
        for module, wrapper in (
            ("prefill", "BatchPrefillWithPagedKVCacheWrapper"),
            ("decode", "BatchDecodeWithPagedKVCacheWrapper"),
        )
        for method in ("__init__", "plan", "run")
    },
    "norm.rmsnorm": ("norm", "", "rmsnorm"),
    "norm.fused_add_rmsnorm": ("norm", "", "fused_add_rmsnorm"),
    "rope.apply_rope_with_cos_sin_cache_inplace": ("rope", "", "apply_rope_with_cos_sin_cache_inplace"),
    "activation.silu_and_mul": ("activation", "", "silu_and_mul"),
    "sampling.top_k_top_p_sampling_from_probs": ("sampling", "", "top_k_top_p_sampling_from_probs"),
}
Read = Callable[[str], str]


def reader(path: Path) -> Read:
    """Return a function that reads a file of the package from a wheel, or from the folder of the package."""
    if path.is_dir():
        return lambda name: (path / name).read_text()
    wheel = zipfile.ZipFile(path)
    return lambda name: wheel.read(f"flashinfer/{name}").decode()


def version(read: Read) -> str:
    """Return the version that the package states."""
    (line,) = [line for line in read("_build_meta.py").splitlines() if line.startswith("__version__")]
    return str(ast.literal_eval(line.partition("=")[2].strip()))


def signatures(read: Read) -> dict[str, str]:
    """Return the parameters of each called function: names and defaults."""
    return {
        name: _parameters(_module(read, module), owner, function) for name, (module, owner, function) in CALLED.items()
    }


def signature_of(parameters: str) -> inspect.Signature:
    """Return the signature of parameters."""
    return inspect.signature(eval(f"lambda {parameters}: None", {}))


def _module(read: Read, name: str) -> list[ast.stmt]:
    try:
        return ast.parse(read(f"{name}.py")).body
    except (KeyError, FileNotFoundError):
        return ast.parse(read(f"{name}/__init__.py")).body


def _parameters(body: list[ast.stmt], owner: str, function: str) -> str:
    if owner:
        (definition,) = [node for node in body if isinstance(node, ast.ClassDef) and node.name == owner]
        body = definition.body
    defined = {node.name: node.args for node in body if isinstance(node, ast.FunctionDef)}  # the last, after overloads
    arguments = defined[function]
    if arguments.kwarg is not None:  # passes everything on
        arguments = defined[f"_{function}_impl"]
    for argument in (*arguments.args, *arguments.kwonlyargs, *filter(None, [arguments.vararg])):
        argument.annotation = None
    return ast.unparse(arguments)


def main(paths: list[str]) -> None:
    """Print the table of some wheels."""
    readers = [reader(Path(path)) for path in paths]
    print(json.dumps({version(read): signatures(read) for read in readers}, indent=1))  # noqa: T201  # its output


if __name__ == "__main__":
    main(sys.argv[1:])
