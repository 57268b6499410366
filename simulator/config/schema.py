"""JSON Schema of configuration files.

It is made from `configs/` and the components that it names.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object

from simulator.cluster import Deployment
from simulator.config.deployments import GROUP_KEYS
from simulator.config.schema_types import INTERPOLATION, Definitions, Schema
from simulator.output import Files
from simulator.results import MetricOptions
from simulator.shipped import CONFIG_DIR, GROUPS, choices

_FILES = ("base", "trials", "token_budget", "search")  # whose keys a file of `experiment` may set
_GLOBAL = ("experiment", "deployment")  # groups whose files set any key
_COMPONENTS = tuple(group for group in GROUPS if group not in (*_GLOBAL, "slo"))
_GROUPS = (*GROUPS, "cluster/router", "cluster/node")
_SECONDS_OR_RATE = re.compile(r"(.*_)?(s|qps)")
_OBJECTIVE = r"^((tbt|ttft|tpot|e2e|scheduling_delay)_(mean|max|p\d+(_\d+)?)|ttft|tpot|e2e|goodput)$"
_COMMENT = re.compile(r"((?:^ *# .*\n)+) *(\w+):", re.MULTILINE)
_NULL: Schema = {"type": "null"}


def json_schema(config_dir: Path | None = None) -> Schema:
    """Return the JSON Schema of configuration files, draft 2020-12.

    It describes the files in `configs/experiment` and `configs/deployment`, and a whole configuration. Values that a
    component itself checks, such as ranges, are not in it.

    Args:
        config_dir: The user's own folder of configurations, whose files may be chosen too.
    """
    definitions = Definitions(_targets())
    names = {group: [*choices(group), *_own_choices(config_dir, group)] for group in _GROUPS}
    properties: dict[str, Schema] = {"defaults": _defaults(names), "slo": _slo(), "default_slo": _slo()}
    for name in _FILES:
        for key, schema in _sections(CONFIG_DIR / f"{name}.yaml", definitions).items():
            properties.setdefault(key, schema)
    properties |= {group: definitions.any_of(_classes(group).values()) for group in _COMPONENTS}
    properties["cluster"]["properties"] |= _cluster(properties, names, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of the LLM serving simulator",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "allOf": list(_chosen_classes(definitions)),
        "$defs": definitions.by_name,
    }


def _own_choices(config_dir: Path | None, group: str) -> list[str]:
    folder = None if config_dir is None else config_dir / group
    return [] if folder is None else sorted(path.stem for path in folder.glob("*.yaml"))


def _cluster(
    properties: Mapping[str, Schema], names: Mapping[str, Sequence[str]], definitions: Definitions
) -> dict[str, Schema]:
    """Return the schemas of keys of `cluster` that are no plain values."""
    numbers = definitions.parameters(Deployment)
    node = definitions.any_of(_classes("cluster/node").values())
    group = {
        "replicas": numbers["num_replicas"],
        "num_nodes": numbers["num_nodes"],
        "node": {"anyOf": [{"enum": names["cluster/node"]}, node]},
        **{name: {"anyOf": [{"enum": names[name]}, properties[name]]} for name in ("device", "scheduler")},
        **{name: properties[name] for name in ("parallel", "kv_cache")},
    }
    assert group.keys() == set(GROUP_KEYS)
    groups = {"type": "array", "items": {"type": "object", "properties": group, "additionalProperties": False}}
    return {
        "router": definitions.any_of(_classes("cluster/router").values()),
        "node": {"anyOf": [node, _NULL]},
        "groups": {"anyOf": [groups, _NULL, INTERPOLATION]},
        "num_nodes": numbers["num_nodes"],
    }


def _targets() -> dict[str, Any]:
    """Return what the shipped files name by `_target_`, by that name."""
    names = {name for path in CONFIG_DIR.rglob("*.yaml") for name in _names_in(_content(path))}
    return {name: get_object(name) for name in sorted(names)}


def _names_in(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for child in node:
            yield from _names_in(child)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key == "_target_":
                yield child
            elif key != "hydra":
                yield from _names_in(child)


def _content(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _classes(group: str) -> dict[str, str]:
    """Return the component of each choice of a group."""
    return {name: _class_of(group, name) for name in choices(group)}


def _class_of(group: str, name: str) -> str:
    """Return the component of a file.

    The file may have it from another of its group.
    """
    content = _content(CONFIG_DIR / group / f"{name}.yaml")
    own = content.get(group, content).get("_target_")
    return str(own) if own else _class_of(group, next(entry for entry in content["defaults"] if entry != "_self_"))


def _defaults(names: Mapping[str, Sequence[str]]) -> Schema:
    """Return the schema of a defaults list: which file each group takes."""
    usual = {f"override /{group}": {"enum": names[group]} for group in _GROUPS if group not in _GLOBAL}
    placed = {rf"^(override )?/{group}(@[\w.]+)?$": {"enum": names[group]} for group in _GROUPS}
    item = {
        "type": "object",
        "properties": usual,
        "patternProperties": placed,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {
        "description": "Files of configs/ that this file builds on.",
        "type": "array",
        "items": {"anyOf": [item, {"enum": ["_self_"]}]},
    }


def _sections(path: Path, definitions: Definitions) -> dict[str, Schema]:
    """Return the schemas of the keys of a top-level file.

    The comments above them describe them.
    """
    text = path.read_text(encoding="utf-8")
    comments = {name: " ".join(comment.replace("#", " ").split()) for comment, name in _COMMENT.findall(text)}
    plain = {name: value for name, value in _content(path).items() if name not in ("defaults", "hydra")}
    own = {"metrics": definitions.parameters(MetricOptions), "output": definitions.parameters(Files)}
    sections = {}
    for name, value in plain.items():
        if name in own:
            sections[name] = {"type": "object", "properties": own[name], "additionalProperties": False}
        elif isinstance(value, Mapping) and "_target_" in value:
            sections[name] = definitions.reference(value["_target_"])
        elif name not in GROUPS:
            sections[name] = _of_value(name, value, comments)
    return sections


def _of_value(name: str, value: Any, comments: Mapping[str, str]) -> Schema:
    """Return the schema of a key from its default."""
    about: Schema = {"description": comments[name]} if name in comments else {}
    if isinstance(value, Mapping):
        properties = {key: _of_value(key, child, comments) for key, child in value.items()}
        return {**about, "type": "object", "properties": properties, "additionalProperties": False}
    about["default"] = value
    if isinstance(value, list):
        return {**about, "anyOf": [_of_list(value), INTERPOLATION]}
    if isinstance(value, bool):
        return {**about, "anyOf": [{"type": "boolean"}, INTERPOLATION]}
    if _SECONDS_OR_RATE.fullmatch(name) or isinstance(value, int | float):
        kind = "integer" if isinstance(value, int) and not _SECONDS_OR_RATE.fullmatch(name) else "number"
        return {**about, "anyOf": [{"type": kind}, *([_NULL] if value is None else []), INTERPOLATION]}
    return {**about, "anyOf": [{"type": "string"}, _NULL]}


def _of_list(values: list[Any]) -> Schema:
    """Return the schema of a list, from the values that it has."""
    first = values[0] if values else ""
    plain = {"type": "integer" if isinstance(first, int) else "string"}
    return {"type": "array", "items": _of_list(first) if isinstance(first, list) else plain}


def _slo() -> Schema:
    bound = [{"type": "number", "exclusiveMinimum": 0}, _NULL, INTERPOLATION]
    by_kind = {"decode_iterations": {"type": "number"}, "by_model": {"type": "object"}}
    bound.append({"type": "object", "properties": by_kind, "additionalProperties": False})
    return {
        "description": "Bounds in seconds by METRIC_STATISTIC, such as tbt_p99, or of each request; share of goodput.",
        "type": "object",
        "patternProperties": {_OBJECTIVE: {"anyOf": bound}},
        "additionalProperties": False,
    }


def _chosen_classes(definitions: Definitions) -> Iterator[Schema]:
    """Yield a condition for each component.

    A file that chooses it sets only its keys.
    """
    for group in _COMPONENTS:
        by_class: dict[str, list[str]] = {}
        for name, target in _classes(group).items():
            by_class.setdefault(target, []).append(name)
        for target, names in by_class.items() if len(by_class) > 1 else ():
            key = f"override /{group}"
            entry = {"type": "object", "properties": {key: {"enum": names}}, "required": [key]}
            yield {
                "if": {"properties": {"defaults": {"contains": entry}}, "required": ["defaults"]},
                "then": {"properties": {group: definitions.reference(target)}},
            }
