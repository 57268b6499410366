"""Compose a configuration and build the arguments of a simulation or prediction."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simulator.cluster import BACKENDS, Deployment, groups_of
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
from simulator.core import CHOICES
from simulator.output import Files
from simulator.results import MetricOptions, objectives_of
from simulator.shipped import CONFIG_DIR, VERSION
from traces import Workload
from traces.shared.spelling import nearest
from traces.shared.value_checks import choice, flag, instance, integer, number, sequence, text

_COMPONENTS = ("scheduler", "model", "device", "parallel", "iteration_time", "engine", "kv_cache")
_SECTIONS = ("cluster", "metrics", "output", "parallel", "kv_cache", "faults")
_RUN_KEYS = ("seed", "time_limit_s", "check", "core", "allow_targets")
_KEYS = (*_COMPONENTS, "trace", "arrival", "cluster", "faults", "metrics", "slo", *_RUN_KEYS, "output")
_CLUSTER_KEYS = ("replicas", "router", "node", "groups", "num_nodes", "workers", "backend")
# Keys that a group of a cluster may override.
GROUP_KEYS = ("device", "node", "parallel", "scheduler", "kv_cache", "replicas", "num_nodes")

# Defaults of engines that depend on several options.
OmegaConf.register_new_resolver("min", min, replace=True)
OmegaConf.register_new_resolver("max", max, replace=True)

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
        workload, deployment, router, faults, seed, time_limit_s, metrics, check, core, workers and backend.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    require_keys(config, "", (*_KEYS, *more_keys))
    for name in _SECTIONS:
        require_mapping(config[name], name)
    seed = require_integer(config.seed, "seed", 0)
    time_limit_s = config.time_limit_s
    with named(""):
        number("time_limit_s", time_limit_s, 0, excluding="low", optional=True)
        flag("check", config.check)
        choice("core", config.core, CHOICES)
    files_of(config)
    deployment = _deployments(config)
    with named("cluster"):
        integer("workers", config.cluster.workers, 1)
        choice("backend", config.cluster.backend, BACKENDS)
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
        "core": config.core,
        "workers": config.cluster.workers,
        "backend": config.cluster.backend,
    }


def build_prediction(config: DictConfig) -> dict[str, Any]:
    """Build the arguments of a prediction: deployment, stage_times, device, prefill, decode.

    Args:
        config: `configs/predict.yaml`, composed.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    require_keys(config, "", (*_COMPONENTS, "cluster", "prefill", "decode", "output", "allow_targets"))
    for name in ("parallel", "kv_cache"):
        require_mapping(config[name], name)
    require_keys(config.cluster, "cluster", ["node"])
    require_keys(config.output, "output", ["json", "plot"])
    with named("output"):
        for name, path in config.output.items():
            text(str(name), path, "the path of a file", optional=True)
    prefill = integer_pairs(config.prefill, "prefill", "[tokens of the chunk, tokens before it]", (1, 0))
    decode = integer_pairs(config.decode, "decode", "[number of decodes, tokens of each]", (1, 1))
    if not prefill and not decode:
        raise ConfigError("the batch is empty: set prefill=[[512,0]], decode=[[32,4096]] or both")
    deployment = _deployment(config)
    with named(""):
        times = deployment.stage_times()
    return {
        "deployment": deployment,
        "stage_times": times,
        "device": deployment.device,
        "prefill": prefill,
        "decode": decode,
    }


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
    entry = f"{{{', '.join(GROUP_KEYS)}}}"
    with named(""):
        sequence("cluster.groups", groups, f"null or a list of groups {entry}", instance, DictConfig, entry, least=1)
    deployments = []
    for index, group in enumerate(groups):
        key = f"cluster.groups[{index}]"
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


def chosen(name: str, overrides: Sequence[str]) -> dict[str, str]:
    """Return the choice of each group, such as "scheduler".

    Args:
        name: Top-level file in `configs/`.
        overrides: In Hydra's syntax.
    """
    return dict(compose(name, list(overrides), return_hydra_config=True).hydra.runtime.choices)


def recomposed(name: str, overrides: Sequence[str], changed: Mapping[str, str]) -> DictConfig:
    """Compose a top-level file again with other choices of some groups.

    Args:
        name: Top-level file in `configs/`.
        overrides: In Hydra's syntax, of the configuration that is being used.
        changed: Choices by group.

    Raises:
        ConfigError: There is no such choice.
    """
    kept = [text for text in overrides if text.lstrip("+").partition("=")[0] not in changed]
    try:
        return compose(name, [*kept, *to_hydra([f"{group}={choice}" for group, choice in changed.items()])])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error


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


def description(config: DictConfig, deployment: Deployment | Sequence[Deployment]) -> dict[str, Any]:
    """Return what every output file says of its run.

    These are config, choices, groups and version. Choices are the files of `configs/` that the command line selected,
    by group.
    """
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return {
        "config": resolved(config),
        "choices": {str(group): name for group, name in chosen.items() if name and not str(group).startswith("hydra")},
        "groups": [group.describe() for group in groups_of(deployment)],
        "version": VERSION,
    }


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values, with paths reduced to file names.

    The folder of an input file does not affect a run. JSON has no infinite numbers; they become text.
    """
    plain: dict[Any, Any] = _without_folders(OmegaConf.to_container(config, resolve=True))
    return {str(key): value for key, value in plain.items()}


def _without_folders(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: Path(value).name if key in FILE_KEYS and isinstance(value, str) else _without_folders(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_without_folders(item) for item in node]
    return str(node) if isinstance(node, float) and not math.isfinite(node) else node


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
    pairs: Any = OmegaConf.to_container(node) if isinstance(node, ListConfig) else node
    with named(""):
        sequence(key, pairs, f"a list of pairs {meaning}", _check_pair, meaning, least)
    return [(first, second) for first, second in pairs]


def _check_pair(name: str, pair: Any, meaning: str, least: tuple[int, int]) -> None:
    sequence(name, pair, f"a pair {meaning}", least=2, most=2)
    for index, low in enumerate(least):
        integer(f"{name}[{index}]", pair[index], low, _MAX_PER_BATCH)


def require_integer(value: Any, key: str, least: int, most: int | None = None) -> int:
    """Return a value if it is an integer from `least` to `most`.

    Raises:
        ConfigError: It is not.
    """
    with named(""):
        integer(key, value, least, most)
    return int(value)
