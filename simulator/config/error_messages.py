"""One-line messages for errors of Hydra, OmegaConf and YAML."""

from collections.abc import Iterator
from typing import Any

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from traces.shared.spelling import nearest


def one_line(error: Exception) -> str:
    """Return an error's message in one line, naming keys and values."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        hint = nearest(choice, error.options)
        return f"{group.replace('/', '.')}={choice}: no such choice; {hint}allowed are: {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override} is not an override; write key=value, and quote values with special characters"
    if isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, OmegaConfBaseException):
        return _unknown_key(error.__cause__)
    if isinstance(error, ConfigCompositionException) and "Could not override" in str(error):
        name = str(error).split(chr(39))[1].replace("/", ".")
        return f"{name} is not a key of this command"
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {error.problem}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {str(error).splitlines()[0]}"
    if isinstance(error, OSError) and error.filename:
        return f"cannot write to {error.filename}: {error.strerror}"
    if "Ambiguous value for argument" in str(error):
        return f"{str(error).split(chr(39))[1].lstrip('+')}: several values need -m (--multirun)"
    return " ".join(str(error).split())


def _unknown_key(error: Any) -> str:
    key = error.full_key or error.key
    allowed = [str(name) for name in error.parent_node] if isinstance(error.parent_node, DictConfig) else []
    prefix = str(key).rpartition(".")[0]
    names = [f"{prefix}.{name}" if prefix else name for name in allowed if name not in ("_target_", "hydra")]
    if not names:
        return f"{key} is not a key; {prefix or 'this section'} has no keys"
    hint = nearest(str(key), names) or nearest(str(key), _keys_below(error.parent_node._get_root(), ""))
    return f"{key} is not a key; {hint}allowed are: {', '.join(names)}"


def _keys_below(node: Any, prefix: str) -> Iterator[str]:
    """Yield the full names of all keys at and below a section."""
    for name, value in node.items_ex(resolve=False):
        if name != "hydra":
            yield f"{prefix}{name}"
            if isinstance(value, DictConfig) and not value._is_none():
                yield from _keys_below(value, f"{prefix}{name}.")
