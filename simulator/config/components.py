"""Builds the components that a configuration names by `_target_`, and says in one line what is wrong with them."""

import inspect
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

_PACKAGED = Path(__file__).parent.parent / "configs"
CONFIG_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent.parent / "configs"
GROUPS = sorted(path.name for path in CONFIG_DIR.iterdir() if path.is_dir() and path.name != "cluster")
# Packages whose classes and functions a configuration may name. Functions have to return a component.
_OWN_PACKAGES = ("simulator", "traces")
_allowed_packages: ContextVar[tuple[str, ...]] = ContextVar("allowed_packages", default=_OWN_PACKAGES)
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# Hydra writes to this log, on several lines, what is raised as well.
logging.getLogger("hydra.utils").addHandler(logging.NullHandler())


class ConfigError(ValueError):
    """Something that the user can mend; its message is one line."""


def choices(group: str) -> list[str]:
    """Names that a group of the configuration may take, for example "scheduler" or "cluster.router"."""
    return sorted(path.stem for path in (CONFIG_DIR / group.replace(".", "/")).glob("*.yaml"))


def component(group: str, name: str) -> Any:
    """Build one choice of a group, such as "llama2_70b" of "model" or "dgx_a100" of "cluster.node".

    Raises:
        ConfigError: A value that is not allowed; the message names it.
    """
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("config", [f"{group.replace('.', '/')}={name}"])
    return build_component(OmegaConf.select(config, group), group)


@contextmanager
def allowing(packages: object) -> Iterator[None]:
    """Let components of other packages be built meanwhile: what is imported can do anything that the user can.

    Raises:
        ConfigError: It is no list of names of packages.
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
    """Build what `_target_` names; its own check of a value becomes one line that names the key."""
    if not isinstance(node, DictConfig) or node._is_none():
        raise ConfigError(f"{key} must be one of {', '.join(choices(key))}; got {node!r}")
    node = _resolved(node, key)
    if "_target_" not in node:
        raise ConfigError(f"{key}._target_ is missing: the class that it is, such as those in configs/")
    _require_parameters(node, key)
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | TypeError):
            where = str(error).rpartition("full_key: ")[2] or key
            raise ConfigError(f"{where}.{error.__cause__}") from error
        raise


def _resolved(node: DictConfig, key: str) -> DictConfig:
    """Return a component as plain values: what an interpolation makes of it is checked, and built, as it is then."""
    plain = OmegaConf.to_container(node, resolve=True)
    if _interpolates(plain):
        raise ConfigError(f"{key} may not hold '${{' after its interpolations")
    whole: Any = plain
    for part in reversed(key.split(".")):  # so that errors name the key
        whole = {part: whole}
    found = OmegaConf.select(OmegaConf.create(whole), key)
    assert isinstance(found, DictConfig)
    return found


def _interpolates(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_interpolates, (*value, *value.values())))
    if isinstance(value, list):
        return any(map(_interpolates, value))
    return isinstance(value, str) and "${" in value


def _require_parameters(node: DictConfig, key: str) -> None:
    target = _target_of(node, key)
    parameters = inspect.signature(target).parameters
    require_keys(node, key, ["_target_", *parameters])
    for needed, parameter in parameters.items():
        if parameter.default is parameter.empty and (needed not in node or OmegaConf.is_missing(node, needed)):
            raise ConfigError(f"{key}.{needed} has no default: give it a value, {key}.{needed}=...")
    hints = get_type_hints(target)
    for name, value in node.items_ex(resolve=False):
        if isinstance(hints.get(str(name)), type) and hints[str(name)].__module__ != "builtins":
            require_mapping(value, f"{key}.{name!s}")
        for where, part in _components_in(value, f"{key}.{name!s}"):
            _require_parameters(part, where)


def _components_in(value: Any, key: str) -> Iterator[tuple[str, DictConfig]]:
    """Yield the components that a value is or holds, by their keys."""
    if not isinstance(value, DictConfig | ListConfig) or value._is_none():
        return
    if isinstance(value, ListConfig):
        for place, one in enumerate(value):
            yield from _components_in(one, f"{key}[{place}]")
    elif "_target_" in value:
        yield key, value
    else:
        for name, one in value.items_ex(resolve=False):
            yield from _components_in(one, f"{key}.{name!s}")


def _target_of(node: DictConfig, key: str) -> Any:
    """Return the class, or the function of our own that returns a component, that `_target_` names."""
    name = str(node._target_)
    allowed = _allowed_packages.get()
    if not any(name.startswith(f"{package}.") for package in allowed):
        package = name.partition(".")[0]
        advice = f"; allow_targets=[{package}] allows it" if _PACKAGE.fullmatch(package) else ""
        raise ConfigError(f"{key}._target_={name} is not of {' or '.join(allowed)}{advice}")
    try:
        is_function = name.rpartition(".")[2].islower()
        target = get_method(name) if is_function else get_class(name)
        made = get_type_hints(target).get("return") if is_function else target
        # What a module of ours has imported from elsewhere is not ours.
        if not any(f"{getattr(made, '__module__', '')}.".startswith(f"{package}.") for package in allowed):
            raise ValueError(name)
        return target
    except (ImportError, ValueError, TypeError, NameError):
        raise ConfigError(f"{key}._target_={name} is not a class that can be imported") from None


def require_mapping(node: Any, key: str) -> None:
    """Check that a key has keys of its own.

    Raises:
        ConfigError: It has a value.
    """
    if not isinstance(node, DictConfig) or node._is_none():
        raise ConfigError(f"{key} has keys of its own, {key}.NAME=VALUE, and takes no value itself; got {node!r}")


def require_keys(node: DictConfig, key: str, allowed: Iterable[str]) -> None:
    """Check that there are no other keys.

    Raises:
        ConfigError: There is one; the message names it and those that are allowed.
    """
    names = [str(name) for name in allowed]
    unknown = [str(name) for name in node if name not in names]
    if unknown:
        prefix = f"{key}." if key else ""
        shown = ", ".join(f"{prefix}{name}" for name in names if name != "_target_")
        raise ConfigError(f"{prefix}{unknown[0]} is not a key; allowed are: {shown}")


@contextmanager
def named(key: str, joint: str = ".") -> Iterator[None]:
    """Put the key in front of what a component says of its values."""
    try:
        yield
    except (ValueError, TypeError) as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{key}{joint}{line}" if key else line) from error
