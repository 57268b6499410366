"""Keys and values of configurations for completion, read from `configs/` without Hydra."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from simulator.shipped import CONFIG_DIR, GROUPS, choices

_GROUPS = (*GROUPS, "cluster.router", "cluster.node")
_HYDRA = ("hydra.run.dir=", "hydra.sweep.dir=", "hydra/launcher=")
_FILES = ("path", "tokenizer", "storage", "json", "plot", "dir")  # last parts of keys that take a path


def completions(config: str, words: Sequence[str], incomplete: str) -> list[str]:
    """Return how an incomplete override may go on.

    Args:
        config: Top-level file in `configs/`.
        words: Complete overrides before it; they choose files, whose keys are then allowed.
        incomplete: For example "sched", "scheduler=sar", "scheduler=vllm,sar" or "scheduler.tok".
    """
    keys = keys_of(config, dict(word.lstrip("+").split("=", 1) for word in words if "=" in word))
    name, equals, value = incomplete.partition("=")
    if equals:
        start = f"{name}={value.rpartition(',')[0]}{',' if ',' in value else ''}"
        found = [f"{start}{choice}" for choice in _values(name.lstrip("+"), keys)]
    else:
        plus = incomplete[: len(incomplete) - len(incomplete.lstrip("+"))]
        found = [*(f"{plus}{key}" for key in _next_keys(name.lstrip("+"), keys)), *_HYDRA]
    return [text for text in found if text.startswith(incomplete)]


def takes_file(incomplete: str) -> bool:
    """Return whether the value of an incomplete override is a path."""
    name, equals, _ = incomplete.partition("=")
    return bool(equals) and name.rpartition(".")[2] in _FILES


def keys_of(config: str, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of a top-level file, as nested mappings.

    Those of the files that it selects are included.
    """
    keys: dict[str, Any] = {}
    _add_file(keys, CONFIG_DIR / f"{config}.yaml", "", chosen)
    keys.pop("hydra", None)
    return keys


def _add_file(keys: dict[str, Any], path: Path, package: str, chosen: Mapping[str, str]) -> None:
    """Add the keys of a file and its defaults at a package."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text) or {}
    for entry in content.pop("defaults", []):
        if isinstance(entry, str):
            if entry != "_self_":
                _add_file(keys, path.parent / f"{entry}.yaml", package, chosen)
            continue
        for name, choice in entry.items():
            _add_group(keys, str(name), choice, chosen)
    _merge(keys, content, "" if text.startswith("# @package _global_") else package)


def _add_group(keys: dict[str, Any], name: str, choice: str | None, chosen: Mapping[str, str]) -> None:
    group, at, package = name.removeprefix("override ").lstrip("/").partition("@")
    if group.startswith("hydra"):
        return
    package = package.removeprefix("_global_.") if at else group.replace("/", ".")
    selected = str(chosen.get(package, choice)).partition(",")[0]  # the first of a sweep
    if name.startswith("override "):
        keys.pop(package, None)  # the file that it replaces
    if selected == "null":
        _merge(keys, {}, package)
    else:
        _add_file(keys, CONFIG_DIR / group / f"{selected}.yaml", package, chosen)


def _merge(keys: dict[str, Any], content: Mapping[str, Any], package: str) -> None:
    """Merge a mapping into the keys at a dotted package."""
    for part in package.split(".") if package else ():
        if not isinstance(keys.get(part), dict):
            keys[part] = {}
        keys = keys[part]
    for name, value in content.items():
        if isinstance(value, Mapping):
            _merge(keys, value, str(name))
        else:
            keys[str(name)] = value


def _next_keys(typed: str, keys: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys below the last dot that was typed.

    "NAME=" takes a value, "NAME." has keys.
    """
    section = typed.rpartition(".")[0]
    prefix = f"{section}." if section else ""
    for name, value in _at(section, keys).items():
        if name == "_target_":
            continue
        if f"{prefix}{name}" in _GROUPS or not (isinstance(value, dict) and value):
            yield f"{prefix}{name}="
        if isinstance(value, dict) and value.keys() - {"_target_"} and name not in ("experiment", "deployment"):
            yield f"{prefix}{name}."


def _values(name: str, keys: Mapping[str, Any]) -> list[str]:
    """Return the values that a key is known to take."""
    if name in _GROUPS:
        return choices(name)
    section, _, last = name.rpartition(".")
    return ["true", "false"] if isinstance(_at(section, keys).get(last), bool) else []


def _at(section: str, keys: Mapping[str, Any]) -> Mapping[str, Any]:
    for part in section.split(".") if section else ():
        below = keys.get(part)
        keys = below if isinstance(below, dict) else {}
    return keys
