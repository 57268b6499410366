"""Overrides as users write them: what is allowed, and how Hydra wants them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from simulator.config.components import GROUPS, ConfigError, choices

# Groups that may choose nothing.
_MAY_BE_NULL = (("experiment", "null"), ("deployment", "null"))
_NOT_A_NAME = re.compile(r"|null|true|false|[-+.\d\[{(].*", re.IGNORECASE)
# What of Hydra a user may set: where files go, and what runs the jobs of a sweep.
_HYDRA_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra/launcher", "hydra.launcher.NAME")
# What files of a user may not set: with either any program could be started.
_FORBIDDEN = ("hydra", "allow_targets")
_DEEPEST = 8  # folders in a folder of configuration
MOST_NODES = 100_000  # of a YAML file, aliases written out


def to_hydra(overrides: Sequence[str]) -> list[str]:
    """Translate our override grammar into Hydra's.

    `+scheduler=X` means `scheduler=X` (Hydra: only without a default), and `cluster.router=X` and
    `cluster.node=X` choose a file (Hydra: `cluster/router=X`). `slo.X=Y`, also in a section, adds an objective
    (Hydra: `++slo.X=Y`).
    """
    translated = []
    for override in overrides:
        name, equals, value = override.partition("=")
        if equals and not name.startswith("-"):
            plain = name.lstrip("+")
            if not plain.startswith("hydra"):
                name = plain.replace(".", "/") if plain in ("cluster.router", "cluster.node") else plain
                section, dot, objective = plain.partition("slo.")
                if dot and (not section or section.endswith(".")):
                    # An objective may be one that the chosen SLO has not; a dot in it would be a key of its own.
                    name = f"++{section}slo.{objective.replace('.', '_')}"
        translated.append(name + equals + value)
    return translated


def check_override(argument: object, *, of_hydra: bool = True) -> None:
    """Refuse what is no override, and what Hydra would answer in several lines or in its own words.

    Args:
        argument: What the user wrote.
        of_hydra: Whether keys of Hydra make sense.

    Raises:
        ConfigError: It is not allowed; one line that names it.
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
    is_group = name in (*GROUPS, "cluster.router", "cluster.node")
    if is_group and (name, value) not in _MAY_BE_NULL and _names_no_file(value):
        raise ConfigError(f"{argument}: {name} must be one of {', '.join(choices(name))}")


def _names_no_file(value: str) -> bool:
    return bool(_NOT_A_NAME.fullmatch(value)) or value.startswith("/") or ".." in value or value.endswith(".yaml")


def _check_hydra(name: str, value: str, argument: str, allowed: bool) -> None:
    known = name in _HYDRA_KEYS or (name.startswith("hydra.launcher.") and "_." not in f"{name}.")
    if not allowed or not known:
        shown = f"allowed of Hydra are: {', '.join(_HYDRA_KEYS)}" if allowed else "here nothing of Hydra can be set"
        raise ConfigError(f"{name} is not a key; {shown}")
    if name.startswith("hydra.launcher.") or name == "hydra/launcher":
        # A launcher and all that its values describe are built.
        if "{" in value or (name == "hydra/launcher" and not re.fullmatch(r"\w+(,\w+)*", value)):
            raise ConfigError(f"{argument}: {name} needs a {'name' if '/' in name else 'plain value'}")
    elif value.strip("'\" ") in ("", "null") or value.strip()[0] in "[{":
        raise ConfigError(f"{argument}: {name} needs a {'name' if name.endswith('launcher') else 'path or a value'}")


def check_config_dir(folder: Path) -> None:
    """Refuse a folder of configuration that sets anything of Hydra, which could run any program, or cannot be read.

    Raises:
        ConfigError: A file of it does, is no UTF-8, or is larger than files of configuration are.
    """
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {folder}: there is no such folder")
    for parent, _, names in os.walk(folder, followlinks=True):
        if len(Path(parent).relative_to(folder).parts) > _DEEPEST:
            raise ConfigError(f"--config-dir {folder}: {parent} is nested too deeply, or refers to itself")
        for path in sorted(Path(parent) / name for name in names if name.endswith(".yaml")):
            if path.is_file():
                _check_file(path, path.relative_to(folder).parts[:-1])


def _check_file(path: Path, folders: Sequence[str]) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        num_nodes = _num_nodes(node, {}, set())
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply, or refers to itself") from None
    except yaml.MarkedYAMLError:
        return  # Hydra says the same if the file is chosen
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if num_nodes > MOST_NODES:
        raise ConfigError(f"{path} has more than {MOST_NODES:,} values with its aliases written out")
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path} must hold keys and values")
    header = " ".join(line for line in text.splitlines() if "@package" in line)
    for word in _FORBIDDEN:
        if word in folders or word in header:
            raise ConfigError(f"{path}: {word} can be set by the command line alone")
    for key, value in _pairs(node):
        _check_key(key, value, f"{path}, line {key.start_mark.line + 1}")


def _check_key(key: yaml.Node, value: yaml.Node, where: str) -> None:
    """Refuse a key of a file that only a command line may set, and a list of defaults that may lead there."""
    names = [str(one.value) for one in _scalars(value)] if key.value == "defaults" else []
    if any("${" in name for name in names):
        raise ConfigError(f"{where}: defaults must be plain names")
    for word in _FORBIDDEN:
        if any(word in re.split(r"[/.@: ]", name) for name in (*names, str(key.value))):
            raise ConfigError(f"{where}: {word} can be set by the command line alone")


def _num_nodes(node: yaml.Node | None, known: dict[int, int], open_: set[int]) -> int:
    """Count the values of a YAML document as if its aliases were written out."""
    if node is None or id(node) in known:
        return 0 if node is None else known[id(node)]
    if id(node) in open_:
        raise RecursionError
    open_.add(id(node))
    children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    total = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(_num_nodes(one, known, open_) for one in children))
    open_.discard(id(node))
    known[id(node)] = total
    return total


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return all keys and values of a YAML document, at any depth, those that are merged in too."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return []
    own = node.value if isinstance(node, yaml.MappingNode) else []
    children = [part for pair in own for part in pair] if own else node.value
    return [*own, *(pair for child in children for pair in _pairs(child))]


def _scalars(node: yaml.Node) -> list[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        return [node]
    children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    return [one for child in children for one in _scalars(child)]
