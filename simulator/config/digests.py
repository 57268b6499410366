"""Digests of the code and of input files.

Together with the configuration, they determine a run.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from simulator.shipped import CONFIG_DIR

_NUM_HEX_DIGITS = 16
# Keys whose values are paths of input files.
FILE_KEYS = ("path", "tokenizer")


@cache
def code_digest() -> str:
    """Return a digest of the code, packaged configuration and fitted profiles."""
    package = Path(__file__).parent.parent
    files = [*package.rglob("*.py"), *package.rglob("*.json*"), *(package.parent / "traces").rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted({*files, *CONFIG_DIR.rglob("*.yaml")}):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:_NUM_HEX_DIGITS]


def input_digests(config: DictConfig) -> dict[str, str]:
    """Return a digest of each input file by its key.

    Files that do not exist are left out.
    """
    return dict(_input_digests(config, ""))


def _input_digests(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, DictConfig):
            yield from _input_digests(value, f"{name}.")
        elif key in FILE_KEYS and isinstance(value, str) and Path(value).is_file():
            with open(value, "rb") as file:
                yield name, hashlib.file_digest(file, "sha256").hexdigest()[:_NUM_HEX_DIGITS]
