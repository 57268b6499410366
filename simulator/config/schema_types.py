"""JSON Schema of type hints and of the parameters of a component."""

import inspect
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]
INTERPOLATION: Schema = {"$ref": "#/$defs/interpolation"}
_SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string", types.NoneType: "null"}
_SECTION = re.compile(r"^(?:Attributes|Args):\n((?:(?: .*)?\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


class Definitions:
    """Schemas of classes and functions, which refer to each other by name.

    Attributes:
        by_name: Schema of each component that was referred to, by its `_target_`.
        targets: Everything that a shipped file names by `_target_`, by that name.
    """

    def __init__(self, targets: Mapping[str, Any]) -> None:
        self.targets = targets
        other = {"type": "string", "not": {"enum": [*targets]}}
        self.by_name: dict[str, Schema] = {
            "interpolation": {"type": "string", "pattern": r"\$\{"},
            "other_component": {"type": "object", "properties": {"_target_": other}, "required": ["_target_"]},
        }

    def reference(self, name: str) -> Schema:
        """Return a reference to a component, and add its schema."""
        if name not in self.by_name:
            self.by_name[name] = {}  # components may contain themselves
            self.by_name[name] = self._component(name)
        return {"$ref": f"#/$defs/{name}"}

    def any_of(self, names: Iterable[str]) -> Schema:
        """Return the schema of one of several components.

        Components that no shipped file names are allowed too, with any keys.
        """
        known = {"anyOf": [*map(self.reference, dict.fromkeys(names))]}
        return {"type": "object", "if": {"$ref": "#/$defs/other_component"}, "else": known}

    def _component(self, name: str) -> Schema:
        target = self.targets[name]
        properties = {"_target_": {"const": name}, **self.parameters(target)}
        return {**_described(target), "type": "object", "properties": properties, "additionalProperties": False}

    def parameters(self, target: Any) -> dict[str, Schema]:
        """Return the schema of each parameter of a class or a function.

        It has the type, the default and the description.
        """
        hints, texts = get_type_hints(target), parameter_texts(target)
        schemas = {}
        for name, parameter in inspect.signature(target).parameters.items():
            schema = {"description": texts[name]} if name in texts else {}
            if parameter.default is None or type(parameter.default) in _SCALARS:
                schema["default"] = parameter.default
            schemas[name] = schema | self.value(hints[name])
        return schemas

    def value(self, hint: Any) -> Schema:
        """Return the schema of a value with a type hint.

        The value may also be interpolated.
        """
        schema = self._exact(hint)
        return schema if not schema or schema.get("type") in ("object", "string") else _either([schema, INTERPOLATION])

    def _exact(self, hint: Any) -> Schema:
        origin, arguments = get_origin(hint), get_args(hint)
        if hint in _SCALARS:
            return {"type": _SCALARS[hint]}
        if origin is Literal:
            return {"enum": [*arguments]}
        if origin in (Union, types.UnionType):
            if any(map(is_dataclass, arguments)):  # its keys, where a mapping is allowed too
                arguments = tuple(argument for argument in arguments if get_origin(argument) is not Mapping)
            return _either([self._exact(argument) for argument in arguments])
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.value(arguments[1])}
        if isinstance(origin, type) and issubclass(origin, Sequence):
            return {"type": "array", "items": self.value(arguments[0])}
        return self._class(hint) if isinstance(hint, type) else {}

    def _class(self, hint: type) -> Schema:
        """Return the schema of a class.

        That is of a component, of plain keys, or of the components that follow a protocol.
        """
        same = [name for name, target in self.targets.items() if target is hint]
        if same:
            return self.reference(same[0])
        if is_dataclass(hint):
            return {"type": "object", "properties": self.parameters(hint), "additionalProperties": False}
        verbs = [name for name, member in vars(hint).items() if inspect.isfunction(member) and not name.startswith("_")]
        following = [
            name
            for name, target in self.targets.items()
            if isinstance(target, type) and verbs and all(hasattr(target, verb) for verb in verbs)
        ]
        return self.any_of(following) if following else {}


def parameter_texts(target: Any) -> dict[str, str]:
    """Return the description of each parameter in a docstring of Google's style."""
    section = _SECTION.search((inspect.getdoc(target) or "") + "\n")
    entries = _ENTRY.findall(section[1]) if section else []
    return {name: re.sub(r"\bNone\b", "null", " ".join(text.split())) for name, text in entries}


def _described(target: Any) -> Schema:
    text = " ".join((inspect.getdoc(target) or "").partition("\n\n")[0].split())
    return {"description": text} if text else {}


def _either(schemas: Sequence[Schema]) -> Schema:
    """Return the schema of any of these, in one list."""
    parts = [part for schema in schemas for part in (schema["anyOf"] if schema.keys() == {"anyOf"} else [schema])]
    return {} if {} in parts else parts[0] if len(parts) == 1 else {"anyOf": parts}
