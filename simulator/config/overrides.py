"""Command-line overrides: checks, and translation to Hydra's syntax."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from simulator.config.components import ConfigError
from simulator.config.model_names import model_choice, unknown_model
from simulator.shipped import GROUPS, choices

# Groups for which null selects no file.
_MAY_BE_NULL = (("experiment", "null"), ("deployment", "null"))
_NOT_A_NAME = re.compile(r"|null|true|false|[-+.\d\[{(].*", re.IGNORECASE)
# Hydra keys that a user may set: output folders, and the launcher of a sweep.
_HYDRA_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra/launcher", "hydra.launcher.NAME")
# Keys that a user's files may not set: either could start any program.
_FORBIDDEN = ("hydra", "allow_targets")
_MAX_DEPTH = 8  # of folders below --config-dir
MOST_NODES = 100_000  # of a YAML file, aliases expanded


# Other names of devices, in lower case.
_DEVICE_ALIASES = {
    "a100": "a100_80gb_sxm",
    "a100_sxm": "a100_80gb_sxm",
    "a100_pcie": "a100_80gb",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "b200": "b200_sxm",
    "rtx_4090": "rtx4090",
    "rtx_pro_6000_server": "rtx_pro_6000",
}


def to_hydra(overrides: Sequence[str]) -> list[str]:
    """Translate overrides from our syntax to Hydra's.

    `device=H200` means `device=h200_sxm`, `model=Qwen/Qwen3-32B` means `model=qwen3_32b`, and other aliases likewise.
    `+scheduler=X` means `scheduler=X` (Hydra allows `+` only without a default). `cluster.router=X` and
    `cluster.node=X` select a file (Hydra: `cluster/router=X`). `slo.X=Y`, also within a section, adds an objective
    (Hydra: `++slo.X=Y`).
    """
    translated = []
    for override in overrides:
        name, equals, value = override.partition("=")
        if equals and not name.startswith("-"):
            plain = name.lstrip("+")
            if not plain.startswith("hydra"):
                if plain == "device":
                    value = _device_name(value)
                elif plain == "model":
                    value = _model_name(value)
                name = plain.replace(".", "/") if plain in ("cluster.router", "cluster.node") else plain
                section, dot, objective = plain.partition("slo.")
                if dot and (not section or section.endswith(".")):
                    # ++ because the selected SLO may lack the objective; a dot in its name would start a nested key.
                    name = f"++{section}slo.{objective.replace('.', '_')}"
        translated.append(name + equals + value)
    return translated


def _device_name(value: str) -> str:
    """Return the names of devices for their aliases, separated by commas."""
    names = [name if name in choices("device") else name.lower().replace("-", "_") for name in value.split(",")]
    return ",".join(_DEVICE_ALIASES.get(name, name) for name in names)


def _model_name(value: str) -> str:
    """Return the files of models for names separated by commas."""
    return ",".join(map(model_choice, value.split(",")))


def check_override(argument: object, *, of_hydra: bool = True) -> None:
    """Reject an invalid override before Hydra does.

    The error is then one line.

    Args:
        argument: Override as the user wrote it.
        of_hydra: Whether Hydra keys are allowed.

    Raises:
        ConfigError: It is not allowed; the message names it.
    """
    if not isinstance(argument, str):
        raise ConfigError(f"{argument!r} is not an override; write 'key=value'")
    name, equals, value = argument.lstrip("+").partition("=")
    if name.startswith("~"):
        if "." not in name or name.startswith("~hydra"):
            raise ConfigError(f"{argument}: this key cannot be removed; give it a value, key=value")
        return
    if not name or not equals or argument.startswith("+++"):
        raise ConfigError(f"{argument} is not an override; write key=value, see --help")
    if "hydra" in re.split(r"[/.@:]", name):
        _check_hydra(name, value, argument, of_hydra)
        return
    if name == "cluster":
        raise ConfigError(f"{argument}: cluster has keys of its own, cluster.NAME=VALUE, and takes no value itself")
    if name == "slo.":
        raise ConfigError(f"{name} is not a key; write key=value, see --help")
    value = _model_name(value) if name == "model" else value
    is_group = name in (*GROUPS, "cluster.router", "cluster.node")
    if is_group and (name, value) not in _MAY_BE_NULL and not _is_file_name(value):
        if name == "model":
            raise ConfigError(f"{argument}: {unknown_model(value)}")
        raise ConfigError(f"{argument}: {name} must be one of {', '.join(choices(name))}")


def _is_file_name(value: str) -> bool:
    is_path = value.startswith("/") or ".." in value or value.endswith(".yaml")
    return not is_path and not _NOT_A_NAME.fullmatch(value)


def _check_hydra(name: str, value: str, argument: str, allowed: bool) -> None:
    known = name in _HYDRA_KEYS or (name.startswith("hydra.launcher.") and "_." not in f"{name}.")
    if not allowed or not known:
        shown = f"allowed Hydra keys are: {', '.join(_HYDRA_KEYS)}" if allowed else "Hydra keys cannot be set here"
        raise ConfigError(f"{name} is not a key; {shown}")
    if name.startswith("hydra.launcher.") or name == "hydra/launcher":
        # Hydra instantiates the launcher and its values.
        if "{" in value or (name == "hydra/launcher" and not re.fullmatch(r"\w+(,\w+)*", value)):
            raise ConfigError(f"{argument}: {name} needs a {'name' if '/' in name else 'plain value'}")
    elif value.strip("'\" ") in ("", "null") or value.strip()[0] in "[{":
        raise ConfigError(f"{argument}: {name} needs a {'name' if name.endswith('launcher') else 'path or a value'}")


def check_config_dir(folder: Path) -> None:
    """Check the YAML files of a configuration folder.

    They must not set Hydra keys, which could start any program.

    Raises:
        ConfigError: A file sets one, is not UTF-8 text, or is too large or too deeply nested.
    """
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {folder}: no such folder")
    for parent, _, names in os.walk(folder, followlinks=True):
        if len(Path(parent).relative_to(folder).parts) > _MAX_DEPTH:
            raise ConfigError(f"--config-dir {folder}: {parent} is nested too deeply, or refers to itself")
        for path in sorted(Path(parent) / name for name in names if name.endswith(".yaml")):
            if path.is_file():
                _check_file(path, path.relative_to(folder).parts[:-1])


def _check_file(path: Path, folders: Sequence[str]) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        size = num_nodes(node)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply, or refers to itself") from None
    except yaml.MarkedYAMLError:
        return  # Hydra reports it if the file is selected
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if size > MOST_NODES:
        raise ConfigError(f"{path} has more than {MOST_NODES:,} values with aliases expanded")
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path} must contain keys and values")
    header = " ".join(line for line in text.splitlines() if "@package" in line)
    for word in _FORBIDDEN:
        if word in folders or word in header:
            raise ConfigError(f"{path}: {word} can only be set on the command line")
    for key, value in _pairs(node):
        _check_key(key, value, f"{path}, line {key.start_mark.line + 1}")


def _check_key(key: yaml.Node, value: yaml.Node, where: str) -> None:
    """Reject a key that only the command line may set.

    The entries of a defaults list are checked as well.
    """
    names = [str(scalar.value) for scalar in _scalars(value)] if key.value == "defaults" else []
    if any("${" in name for name in names):
        raise ConfigError(f"{where}: defaults must be plain names")
    for word in _FORBIDDEN:
        if any(word in re.split(r"[/.@: ]", name) for name in (*names, str(key.value))):
            raise ConfigError(f"{where}: {word} can only be set on the command line")


def num_nodes(node: yaml.Node | None) -> int:
    """Count the nodes of a YAML document with its aliases expanded.

    Raises:
        RecursionError: A node refers to itself.
    """
    counts: dict[int, int] = {}
    open_: set[int] = set()

    def count(part: yaml.Node) -> int:
        if id(part) in open_:
            raise RecursionError
        if id(part) not in counts:
            open_.add(id(part))
            counts[id(part)] = 1 + sum(map(count, _children(part)))
            open_.discard(id(part))
        return counts[id(part)]

    return 0 if node is None else count(node)


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return all keys and values of a YAML document.

    At any depth, merged ones included.
    """
    own = node.value if isinstance(node, yaml.MappingNode) else []
    return [*own, *(pair for child in _children(node) for pair in _pairs(child))]


def _scalars(node: yaml.Node) -> list[yaml.ScalarNode]:
    own = [node] if isinstance(node, yaml.ScalarNode) else []
    return [*own, *(scalar for child in _children(node) for scalar in _scalars(child))]


def _children(node: yaml.Node | None) -> list[yaml.Node]:
    """Return the keys and values, or the entries, of a YAML node."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return []
    return [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
