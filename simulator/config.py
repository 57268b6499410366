"""Composes the configuration and builds the components that it names."""

import inspect
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from simulator.result import MetricOptions
from simulator.simulation import Deployment

_PACKAGED = Path(__file__).parent / "configs"
CONFIG_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "configs"
GROUPS = sorted(path.name for path in CONFIG_DIR.iterdir() if path.is_dir() and path.name != "cluster")

_COMPONENTS = ("scheduler", "model", "device", "parallel", "iteration_time", "engine", "kv_cache")
_PREDICTED = ("model", "device", "parallel", "iteration_time", "engine")
_SECTIONS = ("cluster", "metrics", "output", "parallel", "kv_cache")
_KEYS = (*_COMPONENTS, "trace", "arrival", "cluster", "metrics", "seed", "time_limit_s", "output")

_LARGEST = 1 << 20  # tokens or sequences in one batch

# Randomness by purpose; a purpose keeps its stream when others are added.
_LENGTHS, _ARRIVALS = range(2)


class ConfigError(ValueError):
    """Something that the user can mend; its message is one line."""


def to_hydra(overrides: Sequence[str]) -> list[str]:
    """Translate our override grammar into Hydra's.

    `+scheduler=X` means `scheduler=X` (Hydra: only without a default), and `cluster.router=X` chooses a
    router (Hydra: `cluster/router=X`).
    """
    translated = []
    for override in overrides:
        name, equals, value = override.partition("=")
        if equals and not name.startswith("-"):
            plain = name.lstrip("+")
            name = "cluster/router" if plain == "cluster.router" else name if plain.startswith("hydra") else plain
        translated.append(name + equals + value)
    return translated


def load_config(*overrides: str) -> dict[str, Any]:
    """Compose the configuration and build what it names.

    Args:
        overrides: As on the command line, for example "scheduler=vllm", "arrival.qps=2".

    Returns:
        Arguments for `simulate`: `simulate(**load_config("scheduler=vllm"))`.
    """
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return build(compose("config", to_hydra(overrides)))


def build(config: DictConfig) -> dict[str, Any]:
    """Build the components of a composed configuration: arguments for `simulate`.

    Raises:
        ConfigError: A key or a value that is not allowed; the message names it.
    """
    _require_keys(config, "", _KEYS)
    for name in _SECTIONS:
        _require_mapping(config[name], name)
    seed = _integer(config.seed, "seed", 0)
    lengths, arrivals = (np.random.default_rng([seed, purpose]) for purpose in (_LENGTHS, _ARRIVALS))
    time_limit_s = config.time_limit_s
    if time_limit_s is not None and not (type(time_limit_s) in (int, float) and 0 < time_limit_s < math.inf):
        raise ConfigError(f"time_limit_s must be a finite number above 0 or null, got {time_limit_s!r}")
    if not isinstance(config.output.batches, bool):
        raise ConfigError(f"output.batches must be true or false, got {config.output.batches!r}")
    _require_keys(config.output, "output", ["batches"])
    _require_keys(config.cluster, "cluster", ["replicas", "router"])
    components = {name: _component(config[name], name) for name in _COMPONENTS}
    with _named("cluster"):
        deployment = Deployment(**components, num_replicas=config.cluster.replicas)
    with _named(""):
        deployment.replica_specs()
    source = _component(config.trace, "trace")
    process = _component(config.arrival, "arrival")
    with _named("trace"):
        trace = source.load(lengths)
    with _named(""):
        trace = process.assign(trace, arrivals)
    with _named("metrics"):
        metrics = MetricOptions(**config.metrics)
    return {
        "trace": trace,
        "deployment": deployment,
        "router": _component(config.cluster.router, "cluster.router"),
        "time_limit_s": time_limit_s,
        "metrics": metrics,
        "log_members": config.output.batches,
    }


def build_prediction(config: DictConfig) -> dict[str, Any]:
    """Build what `configs/predict.yaml` composes: stage_times, device, prefill and decode.

    Raises:
        ConfigError: A key or a value that is not allowed; the message names it.
    """
    _require_keys(config, "", (*_PREDICTED, "prefill", "decode", "output"))
    for name in ("parallel", "output"):
        _require_mapping(config[name], name)
    _require_keys(config.output, "output", ["json"])
    if config.output.json is not None and not (isinstance(config.output.json, str) and config.output.json):
        raise ConfigError(f"output.json must be the path of a file or null, got {config.output.json!r}")
    prefill = _pairs(config.prefill, "prefill", "[tokens of the chunk, tokens before it]", (1, 0))
    decode = _pairs(config.decode, "decode", "[number of decodes, tokens of each]", (1, 1))
    if not prefill and not decode:
        raise ConfigError("the batch is empty: give it prefill=[[512,0]], decode=[[32,4096]] or both")
    parts = {name: _component(config[name], name) for name in _PREDICTED}
    with _named(""):
        host = parts["engine"].host_time(parts["device"])
        times = parts["iteration_time"].for_layout(parts["model"], parts["device"], parts["parallel"], host)
    return {"stage_times": times, "device": parts["device"], "prefill": prefill, "decode": decode}


def component(group: str, name: str) -> Any:
    """Build one choice of a group, such as "llama2_70b" of "model".

    Raises:
        ConfigError: A value that is not allowed; the message names it.
    """
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("config", [f"{group}={name}"])
    return _component(config[group], group)


def choices(group: str) -> list[str]:
    """Names that a group of the configuration may take, for example "scheduler" or "cluster.router"."""
    return sorted(path.stem for path in (CONFIG_DIR / group.replace(".", "/")).glob("*.yaml"))


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values, without the folder of the trace: it says nothing about the run."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    path = plain["trace"].get("path")
    if path is not None:
        plain["trace"]["path"] = Path(path).name
    return {str(key): value for key, value in plain.items()}


def _component(node: Any, key: str) -> Any:
    """Build what `_target_` names; its own check of a value becomes one line that names the key."""
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ConfigError(f"{key} must be one of {', '.join(choices(key))}; got {node!r}")
    _require_parameters(node, key)
    missing = [name for name in map(str, node) if OmegaConf.is_missing(node, name)]
    if missing:
        raise ConfigError(f"{key}.{missing[0]} has no default: give it a value, {key}.{missing[0]}=...")
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | TypeError):
            where = str(error).rpartition("full_key: ")[2] or key
            raise ConfigError(f"{where}.{error.__cause__}") from error
        raise


def _require_parameters(node: DictConfig, key: str) -> None:
    try:
        target = get_class(node._target_)
    except (ImportError, ValueError):
        raise ConfigError(f"{key}._target_={node._target_} is not a class that can be imported") from None
    _require_keys(node, key, ["_target_", *inspect.signature(target).parameters])
    hints = get_type_hints(target)
    for name, value in node.items_ex(resolve=False):
        if isinstance(hints.get(str(name)), type) and hints[str(name)].__module__ != "builtins":
            _require_mapping(value, f"{key}.{name!s}")
        if isinstance(value, DictConfig) and "_target_" in value:
            _require_parameters(value, f"{key}.{name!s}")


def _require_mapping(node: Any, key: str) -> None:
    if not isinstance(node, DictConfig) or node._is_none():
        raise ConfigError(f"{key} has keys of its own, {key}.NAME=VALUE, and takes no value itself; got {node!r}")


def _require_keys(node: DictConfig, key: str, allowed: Iterable[str]) -> None:
    names = [str(name) for name in allowed]
    unknown = [str(name) for name in node if name not in names]
    if unknown:
        prefix = f"{key}." if key else ""
        shown = ", ".join(f"{prefix}{name}" for name in names if name != "_target_")
        raise ConfigError(f"{prefix}{unknown[0]} is not a key; allowed are: {shown}")


def _pairs(node: Any, key: str, meaning: str, least: tuple[int, int]) -> list[tuple[int, int]]:
    """Return a list of pairs of whole numbers."""
    pairs = OmegaConf.to_container(node) if isinstance(node, ListConfig) else node
    allowed = f"{key} must be a list of pairs {meaning}, from {least[0]} and {least[1]} to {_LARGEST}"
    if not isinstance(pairs, list):
        raise ConfigError(f"{allowed}; got {pairs!r}")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(one) is int for one in pair):
            raise ConfigError(f"{allowed}; got {pair!r}")
        if not all(low <= one <= _LARGEST for low, one in zip(least, pair, strict=True)):
            raise ConfigError(f"{allowed}; got {pair!r}")
    return [(first, second) for first, second in pairs]


def _integer(value: Any, key: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{key} must be an integer of at least {least}, got {value!r}")
    return value


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Put the key in front of what a component says of its values."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key}.{error}" if key else str(error)) from error
