"""Build the arguments of a simulation or prediction from a composed configuration."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig

from simulator.cluster import BACKENDS, groups_of
from simulator.config.components import ConfigError, build_component, named, require_keys, require_mapping
from simulator.config.compose import composed
from simulator.config.deployments import COMPONENTS, cluster_of, single_deployment
from simulator.config.integers import integer_pairs, require_integer
from simulator.core import CHOICES
from simulator.output import Files
from simulator.results import MetricOptions, objectives_of
from traces import Workload
from traces.shared.value_checks import choice, flag, integer, number, text

_SECTIONS = ("cluster", "metrics", "output", "parallel", "kv_cache", "faults")
_RUN_KEYS = ("seed", "time_limit_s", "check", "core", "allow_targets")
_KEYS = (*COMPONENTS, "trace", "arrival", "cluster", "faults", "metrics", "slo", *_RUN_KEYS, "output")


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
    served = cluster_of(config)
    with named("cluster"):
        integer("workers", config.cluster.workers, 1)
        choice("backend", config.cluster.backend, BACKENDS)
    faults = build_component(config.faults, "faults")
    with named(""):
        faults.check_replicas(sum(group.num_replicas for group in groups_of(served)))
    source, arrivals = build_component(config.trace, "trace"), build_component(config.arrival, "arrival")
    with named("arrival", ": "):
        workload = Workload(source, arrivals)
    with named("metrics"):
        metrics = MetricOptions(**config.metrics)
    return {
        "workload": workload,
        "deployment": served,
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
    require_keys(config, "", (*COMPONENTS, "cluster", "prefill", "decode", "output", "allow_targets"))
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
    served = single_deployment(config)
    with named(""):
        times = served.stage_times()
    return {
        "deployment": served,
        "stage_times": times,
        "device": served.device,
        "prefill": prefill,
        "decode": decode,
    }
