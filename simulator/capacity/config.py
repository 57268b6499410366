"""Builds what the configuration says of a capacity search."""

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
from simulator.results import SLO, of_clients
from traces import Client, Workload

_KEYS = ("start_qps", "resolution_qps", "granularity", "max_trials", "seeds")
MOST_SEEDS = 1000


@dataclass(frozen=True)
class CapacityTask:
    """A search as it was asked for.

    Attributes:
        experiment: What is searched for.
        search: How.
        seeds: One search each.
    """

    experiment: CapacityExperiment
    search: Bisection
    seeds: Sequence[int]


def build_capacity(config: DictConfig, more_keys: Sequence[str] = ()) -> CapacityTask:
    """Build what `configs/capacity.yaml` composes.

    Args:
        config: What was composed.
        more_keys: Keys that the command has besides those of a capacity search.

    Raises:
        ConfigError: A key or a value that is not allowed; the message names it.
    """
    parts = build_experiment(config, ("slo", "capacity", *more_keys))
    seed = parts.pop("seed")
    workload: Workload = parts["workload"]
    with named("arrival", ": "):
        at_some_rate = workload.at(1.0)
    with named("trace"):
        requests = workload.requests(seed)
    with named(""):
        at_some_rate.trace(seed, requests)
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
    """Build the SLO of a deployment. A bound is seconds, or {decode_iterations: N}, or {by_model: {NAME: SECONDS}}.

    Args:
        node: The bounds of all requests by name.
        deployment: What serves them.
        clients: Classes of clients, whose own bounds come on top.

    Raises:
        ConfigError: An objective or a bound that is not allowed.
    """
    require_mapping(node, "slo")
    given = {str(name): bound for name, bound in node.items() if bound is not None}
    bounds = {name: _bound(f"slo.{name}", bound, deployment) for name, bound in given.items()}
    with named("trace", "."):
        own = of_clients(clients)
    with named("slo", "." if bounds else ": "):
        return SLO((*SLO.of(bounds).objectives, *own)) if bounds or not own else SLO(own)


def _bound(key: str, bound: Any, deployment: Deployment | Sequence[Deployment]) -> Any:
    """Return seconds; what is no number is refused where the SLO is built."""
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
        raise ConfigError(f"{key} has no bound for model {unknown[0]}, only for {known}; give it one, {key}=SECONDS")
    return max(value[model] for model in models)


def load_capacity(*overrides: str) -> CapacityTask:
    """Compose `configs/capacity.yaml` and build what it names.

    Args:
        overrides: As on the command line, for example "scheduler=vllm", "slo.tbt_p99=0.2".

    Raises:
        ConfigError: An override that is not allowed; one line that names it.
    """
    with composed("capacity", overrides) as config:
        return build_capacity(config)
