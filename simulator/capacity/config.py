"""Build a capacity search from the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from simulator.capacity.bisection import Bisection
from simulator.capacity.experiment import CapacityExperiment
from simulator.config import (
    build_experiment,
    build_slo,
    composed,
    named,
    require_integer,
    require_keys,
    require_objectives,
)
from traces import Workload

_KEYS = ("start_qps", "resolution_qps", "granularity", "max_trials", "seeds")
MOST_SEEDS = 1000


@dataclass(frozen=True)
class CapacityTask:
    """A capacity search to run.

    Attributes:
        experiment: Workload, deployment and SLO.
        search: Parameters of the bisection.
        seeds: Seeds, with one search for each.
        has_default_slo: Whether no objective was given, so that the default SLO applies.
    """

    experiment: CapacityExperiment
    search: Bisection
    seeds: Sequence[int]
    has_default_slo: bool = False


def build_capacity(config: DictConfig, more_keys: Sequence[str] = ()) -> CapacityTask:
    """Build a capacity search.

    Args:
        config: `configs/capacity.yaml`, composed.
        more_keys: Keys of the command besides those of a capacity search.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    parts = build_experiment(config, ("default_slo", "capacity", *more_keys))
    seed = parts.pop("seed")
    workload: Workload = parts["workload"]
    with named("arrival", ": "):
        at_1_qps = workload.at(1.0)
    with named("trace"):
        requests = workload.requests(seed)
    with named(""):
        at_1_qps.trace(seed, requests)
    written = build_slo(config.slo, parts["deployment"], requests.clients)
    slo = written or build_slo(config.default_slo, parts["deployment"])
    require_objectives(slo)
    require_keys(config.capacity, "capacity", _KEYS)
    settings = dict(config.capacity)
    num_seeds = require_integer(settings.pop("seeds"), "capacity.seeds", 1, MOST_SEEDS)
    own = {name: parts.pop(name) for name in ("workload", "deployment", "time_limit_s")}
    experiment = CapacityExperiment(slo=slo, settings=parts, **own)
    if settings["start_qps"] is None:
        with named(""):
            settings["start_qps"] = experiment.start_qps(requests)
    with named("capacity"):
        search = Bisection(**settings)
    return CapacityTask(experiment, search, range(seed, seed + num_seeds), has_default_slo=not written)


def load_capacity(*overrides: str) -> CapacityTask:
    """Compose `configs/capacity.yaml` and build the capacity search.

    Args:
        overrides: As on the command line, for example "scheduler=vllm", "slo.tbt_p99=0.2".

    Raises:
        ConfigError: An override is not allowed; the message is one line that names it.
    """
    with composed("capacity", overrides) as config:
        return build_capacity(config)
