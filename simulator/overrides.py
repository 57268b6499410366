"""Overrides as users write them: what is allowed, and how Hydra wants them."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from simulator.components import GROUPS, ConfigError, choices

# Groups that may choose nothing.
_MAY_BE_NULL = (("experiment", "null"), ("deployment", "null"))
_NOT_A_NAME = re.compile(r"|null|true|false|[-+.\d\[{(].*", re.IGNORECASE)
_NAME = re.compile(r"[\w./-]+")
# What of Hydra a user may set: where files go, and what runs the jobs of a sweep.
_HYDRA_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra/launcher", "hydra.launcher.NAME")
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
    if name.partition("/")[0].partition(".")[0] == "hydra":
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
    known = name in _HYDRA_KEYS or (name.startswith("hydra.launcher.") and not name.endswith("_"))
    if not allowed or not known:
        shown = f"allowed of Hydra are: {', '.join(_HYDRA_KEYS)}" if allowed else "here nothing of Hydra can be set"
        raise ConfigError(f"{name} is not a key; {shown}")
    if name in _HYDRA_KEYS and (value.strip("'\"") in ("", "null") or value[0] in "[{"):
        raise ConfigError(f"{argument}: {name} needs a {'name' if name.endswith('launcher') else 'path or a value'}")


def check_config_dir(folder: Path) -> None:
    """Refuse a folder of configuration that sets anything of Hydra, which could run any program, or cannot be read.

    Raises:
        ConfigError: A file of it does, is no UTF-8, or is larger than files of configuration are.
    """
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {folder}: there is no such folder")
    for path in sorted(folder.rglob("*.yaml")):
        if path.is_file():
            _check_file(path)


def _check_file(path: Path) -> None:
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
    header = [line for line in text.splitlines() if line.startswith("#") and "@package" in line]
    if "hydra" in path.relative_to(path.anchor).parts[-3:-1] or any("hydra" in line for line in header):
        raise ConfigError(f"{path}: nothing of Hydra can be set by a file")
    for key, value in node.value if node is not None else []:
        names = [one.value for one in _scalars(value)] if key.value == "defaults" else [str(key.value)]
        if any("hydra" in re.split(r"[/.@ ]", str(name)) for name in names):
            raise ConfigError(f"{path}, line {key.start_mark.line + 1}: nothing of Hydra can be set by a file")


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


def _scalars(node: yaml.Node) -> list[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        return [node]
    children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    return [one for child in children for one in _scalars(child)]
