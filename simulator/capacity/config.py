"""Build a capacity search from the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from simulator.capacity.bisection import Bisection
from simulator.capacity.experiment import CapacityExperiment, reference_iteration_s
from simulator.cluster import Deployment, groups_of
from simulator.config import (
    ConfigError,
    build_experiment,
    composed,
    named,
    require_integer,
    require_keys,
    require_mapping,
)
from simulator.results import SLO, objectives_of
from traces import Client, Workload

_KEYS = ("start_qps", "resolution_qps", "granularity", "max_trials", "seeds")
MOST_SEEDS = 1000


@dataclass(frozen=True)
class CapacityTask:
    """A capacity search to run.

    Attributes:
        experiment: Workload, deployment and SLO.
        search: Parameters of the bisection.
        seeds: Seeds, with one search for each.
    """

    experiment: CapacityExperiment
    search: Bisection
    seeds: Sequence[int]


def build_capacity(config: DictConfig, more_keys: Sequence[str] = ()) -> CapacityTask:
    """Build a capacity search.

    Args:
        config: `configs/capacity.yaml`, composed.
        more_keys: Keys of the command besides those of a capacity search.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    parts = build_experiment(config, ("slo", "capacity", *more_keys))
    seed = parts.pop("seed")
    workload: Workload = parts["workload"]
    with named("arrival", ": "):
        at_1_qps = workload.at(1.0)
    with named("trace"):
        requests = workload.requests(seed)
    with named(""):
        at_1_qps.trace(seed, requests)
    slo = build_slo(config.slo, parts["deployment"], requests.clients)
    require_mapping(config.capacity, "capacity")
    require_keys(config.capacity, "capacity", _KEYS)
    settings = dict(config.capacity)
    num_seeds = require_integer(settings.pop("seeds"), "capacity.seeds", 1)
    if num_seeds > MOST_SEEDS:
        raise ConfigError(f"capacity.seeds must be at most {MOST_SEEDS}, got {num_seeds}")
    experiment = CapacityExperiment(slo=slo, **parts)
    if settings["start_qps"] is None:
        with named(""):
            settings["start_qps"] = experiment.start_qps(requests)
    with named("capacity"):
        search = Bisection(**settings)
    return CapacityTask(experiment, search, range(seed, seed + num_seeds))


def build_slo(node: Any, deployment: Deployment | Sequence[Deployment], clients: Sequence[Client] = ()) -> SLO:
    """Build the SLO of a deployment.

    Args:
        node: Bounds for all requests by objective: seconds, {decode_iterations: N} or {by_model: {NAME: SECONDS}}.
        deployment: Deployment, or the groups of a cluster.
        clients: Client classes, whose bounds are added.

    Raises:
        ConfigError: An objective or a bound is not allowed.
    """
    require_mapping(node, "slo")
    given = {str(name): bound for name, bound in node.items() if bound is not None}
    bounds = {name: _bound(f"slo.{name}", bound, deployment) for name, bound in given.items()}
    with named("trace", "."):
        client_objectives = objectives_of(clients)
    with named("slo", "." if bounds else ": "):
        if not bounds and client_objectives:
            return SLO(client_objectives)
        return SLO((*SLO.of(bounds).objectives, *client_objectives))


def _bound(key: str, bound: Any, deployment: Deployment | Sequence[Deployment]) -> Any:
    """Return a bound in seconds; `SLO` rejects values that are not numbers."""
    if not isinstance(bound, DictConfig):
        return bound
    value: Any
    (kind, value), *others = bound.items() if len(bound) else [("", None)]
    if others or kind not in ("decode_iterations", "by_model"):
        raise ConfigError(
            f"{key} must be seconds, {{decode_iterations: N}} or {{by_model: {{NAME: SECONDS}}}}, got {bound}"
        )
    if kind == "decode_iterations":
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise ConfigError(f"{key}.decode_iterations must be a number above 0, got {value!r}")
        with named(""):
            return value * reference_iteration_s(deployment)
    require_mapping(value, f"{key}.by_model")
    models = {group.model.name for group in groups_of(deployment)}
    unknown = sorted(models - set(value))
    if unknown:
        known = ", ".join(map(str, value))
        raise ConfigError(f"{key} has no bound for model {unknown[0]}, only for {known}; set {key}=SECONDS")
    return max(value[model] for model in models)


def load_capacity(*overrides: str) -> CapacityTask:
    """Compose `configs/capacity.yaml` and build the capacity search.

    Args:
        overrides: As on the command line, for example "scheduler=vllm", "slo.tbt_p99=0.2".

    Raises:
        ConfigError: An override is not allowed; the message is one line that names it.
    """
    with composed("capacity", overrides) as config:
        return build_capacity(config)
