"""Build the components that a configuration names by `_target_`.

Errors are one line.
"""

import inspect
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from simulator.shipped import CONFIG_DIR, choices
from traces.shared.spelling import nearest

# Packages whose classes and functions `_target_` may name. A function must return a component.
_OWN_PACKAGES = ("simulator", "traces")
_allowed_packages: ContextVar[tuple[str, ...]] = ContextVar("allowed_packages", default=_OWN_PACKAGES)
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# Hydra also logs the errors that it raises, on several lines.
logging.getLogger("hydra.utils").addHandler(logging.NullHandler())


class ConfigError(ValueError):
    """An invalid configuration; the message is one line."""


def component(group: str, name: str) -> Any:
    """Build one choice of a group, such as "dgx_a100" of "cluster.node".

    Raises:
        ConfigError: A value is not allowed; the message names it.
    """
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("config", [f"{group.replace('.', '/')}={name}"])
    return build_component(OmegaConf.select(config, group), group)


@contextmanager
def allowing(packages: object) -> Iterator[None]:
    """Allow `_target_` to name these packages too, inside the `with` block.

    Importing a package runs its code with all permissions of the user.

    Raises:
        ConfigError: `packages` is not a list of package names.
    """
    names = packages if isinstance(packages, ListConfig | list) else None
    if names is None or not all(isinstance(name, str) and _PACKAGE.fullmatch(name) for name in names):
        raise ConfigError(f"allow_targets must be a list of packages, for example [my_package], got {packages!r}")
    token = _allowed_packages.set((*_OWN_PACKAGES, *names))
    try:
        yield
    finally:
        _allowed_packages.reset(token)


def build_component(node: Any, key: str) -> Any:
    """Build the component that `_target_` names.

    Raises:
        ConfigError: The component rejects a value; the message names the key.
    """
    if not isinstance(node, DictConfig) or node._is_none():
        raise ConfigError(f"{key} must be one of {', '.join(choices(key))}; got {node!r}")
    node = _resolved(node, key)
    if "_target_" not in node:
        raise ConfigError(f"{key}._target_ is missing: name a class, as the files in configs/ do")
    _require_parameters(node, key)
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | TypeError):
            where = str(error).rpartition("full_key: ")[2] or key
            raise ConfigError(f"{where}.{error.__cause__}") from error
        raise


def _resolved(node: DictConfig, key: str) -> DictConfig:
    """Return a component with its interpolations resolved.

    The values that are checked are then the values that are built.
    """
    plain = OmegaConf.to_container(node, resolve=True)
    if _has_interpolation(plain):
        raise ConfigError(f"{key} must not contain '${{' after interpolation")
    nested: Any = plain
    for part in reversed(key.split(".")):  # so that errors name the full key
        nested = {part: nested}
    component_node = OmegaConf.select(OmegaConf.create(nested), key)
    assert isinstance(component_node, DictConfig)
    return component_node


def _has_interpolation(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_interpolation, (*value, *value.values())))
    if isinstance(value, list):
        return any(map(_has_interpolation, value))
    return isinstance(value, str) and "${" in value


def _require_parameters(node: DictConfig, key: str) -> None:
    target = _target_of(node, key)
    parameters = inspect.signature(target).parameters
    require_keys(node, key, ["_target_", *parameters])
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and (name not in node or OmegaConf.is_missing(node, name)):
            raise ConfigError(f"{key}.{name} has no default: set {key}.{name}=...")
    hints = get_type_hints(target)
    for field, value in node.items_ex(resolve=False):
        if isinstance(hints.get(str(field)), type) and hints[str(field)].__module__ != "builtins":
            require_mapping(value, f"{key}.{field!s}")
        for component_key, component_node in _components_in(value, f"{key}.{field!s}"):
            _require_parameters(component_node, component_key)


def _components_in(value: Any, key: str) -> Iterator[tuple[str, DictConfig]]:
    """Yield key and node of each component at or below a value."""
    if not isinstance(value, DictConfig | ListConfig) or value._is_none():
        return
    if isinstance(value, ListConfig):
        for index, item in enumerate(value):
            yield from _components_in(item, f"{key}[{index}]")
    elif "_target_" in value:
        yield key, value
    else:
        for name, item in value.items_ex(resolve=False):
            yield from _components_in(item, f"{key}.{name!s}")


def _target_of(node: DictConfig, key: str) -> Any:
    """Return the class or the function that `_target_` names.

    The function must return a component.
    """
    name = str(node._target_)
    allowed = _allowed_packages.get()
    if not any(name.startswith(f"{package}.") for package in allowed):
        package = name.partition(".")[0]
        advice = f"; allow_targets=[{package}] allows it" if _PACKAGE.fullmatch(package) else ""
        raise ConfigError(f"{key}._target_={name} is not in {' or '.join(allowed)}{advice}")
    try:
        is_function = name.rpartition(".")[2].islower()
        target = get_method(name) if is_function else get_class(name)
        built_class = get_type_hints(target).get("return") if is_function else target
        # A module may import classes of packages that are not allowed.
        if not any(f"{getattr(built_class, '__module__', '')}.".startswith(f"{package}.") for package in allowed):
            raise ValueError(name)
        return target
    except (ImportError, ValueError, TypeError, NameError):
        raise ConfigError(f"{key}._target_={name} is not a class that can be imported") from None


def require_mapping(node: Any, key: str) -> None:
    """Check that a key is a section with keys.

    Raises:
        ConfigError: It has a value instead.
    """
    if not isinstance(node, DictConfig) or node._is_none():
        raise ConfigError(f"{key} has keys of its own, {key}.NAME=VALUE, and takes no value itself; got {node!r}")


def require_keys(node: DictConfig, key: str, allowed: Iterable[str]) -> None:
    """Check that a key is a section, with allowed keys only.

    Raises:
        ConfigError: It has a value or another key; the message names it and the allowed ones.
    """
    require_mapping(node, key)
    names = [str(name) for name in allowed]
    unknown = [str(name) for name in node if name not in names]
    if unknown:
        prefix = f"{key}." if key else ""
        shown = [f"{prefix}{name}" for name in names if name != "_target_"]
        hint = nearest(f"{prefix}{unknown[0]}", shown)
        raise ConfigError(f"{prefix}{unknown[0]} is not a key; {hint}allowed are: {', '.join(shown)}")


@contextmanager
def named(key: str, joint: str = ".") -> Iterator[None]:
    """Raise component errors inside the `with` block as ConfigError.

    The message is one line that starts with the key.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{key}{joint}{line}" if key else line) from error
