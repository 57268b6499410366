"""What makes two runs the same beyond their configuration: the code, and the content of the files that they read."""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from simulator.config.components import CONFIG_DIR

VERSION = "0.1.0"
_LENGTH = 16
# Keys whose value names a file that a run reads.
FILE_KEYS = ("path", "tokenizer")


@cache
def code_digest() -> str:
    """Return a digest of the package: its code, its configuration and its fitted profiles."""
    package = Path(__file__).parent.parent
    files = [*package.rglob("*.py"), *package.rglob("*.json*"), *(package.parent / "traces").rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted({*files, *CONFIG_DIR.rglob("*.yaml")}):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:_LENGTH]


def input_digests(config: DictConfig) -> dict[str, str]:
    """Return a digest of each file that a configuration names, by its key; a file that cannot be read has none."""
    return dict(_inputs(config, ""))


def _inputs(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, DictConfig):
            yield from _inputs(value, f"{name}.")
        elif key in FILE_KEYS and isinstance(value, str) and Path(value).is_file():
            with open(value, "rb") as file:
                yield name, hashlib.file_digest(file, "sha256").hexdigest()[:_LENGTH]
