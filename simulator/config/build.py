"""Compose a configuration and build the arguments of a simulation or prediction."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simulator.cluster import Deployment, groups_of
from simulator.config.components import (
    ConfigError,
    allowing,
    build_component,
    named,
    require_keys,
    require_mapping,
)
from simulator.config.digests import FILE_KEYS
from simulator.config.error_messages import one_line
from simulator.config.overrides import check_override, to_hydra
from simulator.output import Files
from simulator.results import MetricOptions, objectives_of
from simulator.shipped import CONFIG_DIR
from traces import Workload
from traces.shared.spelling import nearest
from traces.shared.value_checks import flag

_COMPONENTS = ("scheduler", "model", "device", "parallel", "iteration_time", "engine", "kv_cache")
_SECTIONS = ("cluster", "metrics", "output", "parallel", "kv_cache", "faults")
_RUN_KEYS = ("seed", "time_limit_s", "check", "allow_targets")
_KEYS = (*_COMPONENTS, "trace", "arrival", "cluster", "faults", "metrics", *_RUN_KEYS, "output")
_CLUSTER_KEYS = ("replicas", "router", "node", "groups", "num_nodes")
# Keys that a group of a cluster may override.
GROUP_KEYS = ("device", "node", "parallel", "scheduler", "kv_cache", "replicas", "num_nodes")

_MAX_PER_BATCH = 1 << 20  # tokens or sequences


def load_config(*overrides: str) -> dict[str, Any]:
    """Compose the configuration and build its components.

    Args:
        overrides: As on the command line, for example "scheduler=vllm", "arrival.qps=2".

    Returns:
        Arguments for `simulate`: `simulate(**load_config("scheduler=vllm"))`.

    Raises:
        ConfigError: An override is not allowed; the message is one line that names it.
    """
    with composed("config", overrides) as config:
        return build(config)


@contextmanager
def composed(name: str, overrides: Sequence[str]) -> Iterator[DictConfig]:
    """Compose a top-level file of `configs/`.

    Inside the `with` block, other choices of its groups can be composed.

    Raises:
        ConfigError: An override is not allowed; the message is one line that names it.
    """
    for override in overrides:
        check_override(override, of_hydra=False)
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = compose(name, to_hydra(overrides))
            with allowing(config.allow_targets):
                yield config
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error


def build(config: DictConfig) -> dict[str, Any]:
    """Build the arguments of `simulate` from a composed configuration.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    arguments = build_experiment(config)
    workload, seed = arguments.pop("workload"), arguments["seed"]
    with named("trace"):
        requests = workload.requests(seed)
        objectives_of(requests.clients)
    with named(""):
        trace = workload.trace(seed, requests)
    files = files_of(config)
    return {"trace": trace, **arguments, "log_members": files.need_members, "log_stages": files.need_stages}


def files_of(config: DictConfig) -> Files:
    """Return the output files of a run.

    Raises:
        ConfigError: A key or a value is not allowed.
    """
    require_keys(config.output, "output", [field.name for field in fields(Files)])
    with named("output"):
        return Files(**config.output)


def build_experiment(config: DictConfig, more_keys: Sequence[str] = ()) -> dict[str, Any]:
    """Build a deployment and its workload.

    Args:
        config: Composed configuration.
        more_keys: Keys of the command besides those of a run.

    Returns:
        workload, deployment, router, faults, seed, time_limit_s, metrics and check.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    require_keys(config, "", (*_KEYS, *more_keys))
    for name in _SECTIONS:
        require_mapping(config[name], name)
    seed = require_integer(config.seed, "seed", 0)
    time_limit_s = config.time_limit_s
    if time_limit_s is not None and not (type(time_limit_s) in (int, float) and 0 < time_limit_s < math.inf):
        raise ConfigError(f"time_limit_s must be a finite number above 0 or null, got {time_limit_s!r}")
    with named(""):
        flag("check", config.check)
    files_of(config)
    deployment = _deployments(config)
    faults = build_component(config.faults, "faults")
    with named(""):
        faults.check_replicas(sum(group.num_replicas for group in groups_of(deployment)))
    source, arrivals = build_component(config.trace, "trace"), build_component(config.arrival, "arrival")
    with named("arrival", ": "):
        workload = Workload(source, arrivals)
    with named("metrics"):
        metrics = MetricOptions(**config.metrics)
    return {
        "workload": workload,
        "deployment": deployment,
        "router": build_component(config.cluster.router, "cluster.router"),
        "faults": faults,
        "seed": seed,
        "time_limit_s": time_limit_s,
        "metrics": metrics,
        "check": config.check,
    }


def build_prediction(config: DictConfig) -> dict[str, Any]:
    """Build the arguments of a prediction: stage_times, device, prefill and decode.

    Args:
        config: `configs/predict.yaml`, composed.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    require_keys(config, "", (*_COMPONENTS, "cluster", "prefill", "decode", "output", "allow_targets"))
    for name in ("parallel", "kv_cache", "cluster", "output"):
        require_mapping(config[name], name)
    require_keys(config.cluster, "cluster", ["node"])
    require_keys(config.output, "output", ["json", "plot"])
    for name, path in config.output.items():
        if path is not None and not (isinstance(path, str) and path):
            raise ConfigError(f"output.{name} must be the path of a file or null, got {path!r}")
    prefill = integer_pairs(config.prefill, "prefill", "[tokens of the chunk, tokens before it]", (1, 0))
    decode = integer_pairs(config.decode, "decode", "[number of decodes, tokens of each]", (1, 1))
    if not prefill and not decode:
        raise ConfigError("the batch is empty: set prefill=[[512,0]], decode=[[32,4096]] or both")
    deployment = _deployment(config)
    with named(""):
        times = deployment.stage_times()
    return {"stage_times": times, "device": deployment.device, "prefill": prefill, "decode": decode}


def _deployments(config: DictConfig) -> Deployment | list[Deployment]:
    """Build the deployment of a cluster, or one per group.

    Checks that the replicas fit.
    """
    require_keys(config.cluster, "cluster", _CLUSTER_KEYS)
    groups = config.cluster.groups
    if groups is None:
        deployment = _deployment(config)
        with named(""):
            deployment.replica_specs()
        return deployment
    if not isinstance(groups, ListConfig) or len(groups) == 0:
        raise ConfigError(
            f"cluster.groups must be null or a list of groups {{{', '.join(GROUP_KEYS)}}}, got {groups!r}"
        )
    deployments = []
    for number, group in enumerate(groups):
        key = f"cluster.groups[{number}]"
        if not isinstance(group, DictConfig):
            raise ConfigError(f"{key} must be {{KEY: VALUE}} with keys among {', '.join(GROUP_KEYS)}; got {group!r}")
        require_keys(group, key, GROUP_KEYS)
        with named(key):
            deployments.append(deployment_of(config, group))
        with named(key, ": "):
            deployments[-1].replica_specs()
    return deployments


def deployment_of(config: DictConfig, group: DictConfig) -> Deployment:
    """Build the deployment of a group.

    Args:
        config: Composed configuration.
        group: Keys that the group overrides.

    Raises:
        ConfigError: A key or a value is not allowed.
    """
    return _deployment(_with_group(config, group), section="")


def _deployment(config: DictConfig, section: str = "cluster") -> Deployment:
    components = {name: build_component(config[name], name) for name in _COMPONENTS}
    cluster = config.cluster
    components["node"] = None if cluster.get("node") is None else build_component(cluster.node, "cluster.node")
    with named(section):
        return Deployment(**components, num_replicas=cluster.get("replicas", 1), num_nodes=cluster.get("num_nodes"))


def _with_group(config: DictConfig, group: DictConfig) -> DictConfig:
    """Return the configuration of one group.

    A name replaces the component by that file of `configs/`; keys change single values; the rest is inherited.
    """
    merged = config.copy()
    OmegaConf.set_struct(merged, False)
    chosen = {str(name): value for name, value in group.items() if isinstance(value, str)}
    if "device" in chosen:
        choice = _choose("device", chosen["device"])
        merged.device, merged.cluster.node = choice.device, choice.cluster.get("node")
    if "node" in chosen:
        merged.cluster.node = _choose("cluster/node", chosen["node"]).cluster.node
    if "scheduler" in chosen:
        merged.scheduler = _choose("scheduler", chosen["scheduler"]).scheduler
    for name, value in ((str(name), value) for name, value in group.items()):
        if name in ("replicas", "num_nodes"):
            merged.cluster[name] = value
        elif isinstance(value, str):
            if name not in ("device", "node", "scheduler"):
                raise ConfigError(
                    f"{name} has keys of its own, {{NAME: VALUE}}, and takes no value itself; got {value!r}"
                )
        else:
            require_mapping(value, name)
            section = merged.cluster if name == "node" else merged
            section[name] = value if "_target_" in value else OmegaConf.merge(section[name], value)
    return merged


def _choose(group: str, name: str) -> DictConfig:
    """Compose the configuration with another choice of a group.

    Raises:
        ConfigError: There is no such choice.
    """
    # The loader also knows the files of --config-dir.
    allowed = sorted(GlobalHydra.instance().config_loader().get_group_options(group))
    if name not in allowed:
        hint = nearest(name, allowed)
        raise ConfigError(f"{group.rpartition('/')[2]} must be one of {', '.join(allowed)}; {hint}got {name!r}")
    return compose("config", [f"{group}={name}"])


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values, with paths reduced to file names.

    The folder of an input file does not affect a run.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    named_only = _without_folders(plain)
    assert isinstance(named_only, dict)
    return {str(key): value for key, value in named_only.items()}


def _without_folders(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: Path(value).name if key in FILE_KEYS and isinstance(value, str) else _without_folders(value)
            for key, value in node.items()
        }
    return [_without_folders(item) for item in node] if isinstance(node, list) else node


def integer_pairs(node: Any, key: str, meaning: str, least: tuple[int, int]) -> list[tuple[int, int]]:
    """Return a list of pairs of integers.

    Args:
        node: Value of the key.
        key: Name of the key, for messages.
        meaning: Meaning of a pair, for messages.
        least: Minimum of the first and the second integer.

    Raises:
        ConfigError: The value is not such a list.
    """
    pairs = OmegaConf.to_container(node) if isinstance(node, ListConfig) else node
    allowed = f"{key} must be a list of pairs {meaning}, from {least[0]} and {least[1]} to {_MAX_PER_BATCH}"
    if not isinstance(pairs, list):
        raise ConfigError(f"{allowed}; got {pairs!r}")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(number) is int for number in pair):
            raise ConfigError(f"{allowed}; got {pair!r}")
        if not all(low <= number <= _MAX_PER_BATCH for low, number in zip(least, pair, strict=True)):
            raise ConfigError(f"{allowed}; got {pair!r}")
    return [(first, second) for first, second in pairs]


def require_integer(value: Any, key: str, least: int) -> int:
    """Return a value if it is an integer of at least `least`.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{key} must be an integer of at least {least}, got {value!r}")
    return value
