"""Build a search from the configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from simulator.capacity import lasting_warnings
from simulator.cluster import Deployment, Faults, has_token_budget, with_token_budget
from simulator.config import (
    ConfigError,
    build_experiment,
    build_objectives,
    code_digest,
    deployment_of,
    input_digests,
    named,
    require_integer,
    require_keys,
    require_mapping,
    require_slo,
    resolved,
)
from simulator.results import SLO, MetricOptions
from simulator.routers import Router
from simulator.search.bounds import Load
from simulator.search.cheapest import CannotServeError, Served
from simulator.search.outcomes import NEVER_S, Candidate
from simulator.search.space import Build, Option, Pruned, Space, options
from simulator.simulation import simulate
from traces import Trace

_KEYS = ("devices", "tp", "pp", "schedulers", "token_budgets", "max_gpus", "trials", "storage")


@dataclass(frozen=True)
class SearchTask:
    """A search to run.

    Attributes:
        kept: Devices and layouts to search.
        pruned: Devices and layouts that are ruled out, with the reasons.
        policies: Token budgets by policy; empty if the policy has none.
        slo: SLO of the deployments.
        max_gpus: Maximum number of GPUs of a deployment.
        trials: Maximum number of trials.
        storage: Storage of the trials, see `cheapest.open_storage`.
        seed: Seed of the load and of the proposals.
        problem: Identity of the search.
        build: Returns a deployment of one replica for a device, tp, pp and scheduler.
        trace: Load.
        router: Chooses the replica of a request.
        time_limit_s: Simulated seconds of a trial; None: no limit.
        metrics: Options of the metrics.
        faults: Faults to inject.
        check: Whether to check invariants, see `simulate`.
    """

    kept: Sequence[Option]
    pruned: Sequence[Pruned]
    policies: Mapping[str, Sequence[int]]
    slo: SLO
    max_gpus: int
    trials: int
    storage: str | None
    seed: int
    problem: Mapping[str, Any]
    build: Build
    trace: Trace
    router: Router
    time_limit_s: float | None
    metrics: MetricOptions
    faults: Faults
    check: bool

    def serve(self, candidate: Candidate) -> Served:
        """Simulate the load with a candidate.

        Raises:
            CannotServeError: It does not fit its nodes or memory.
        """
        option = candidate.option
        deployment = self.build(option.device, option.tp, option.pp, candidate.scheduler)
        deployment = replace(deployment, num_replicas=candidate.replicas)
        if candidate.token_budget is not None:
            deployment = with_token_budget(deployment, candidate.token_budget)
        try:
            deployment.replica_specs()
        except ValueError as error:
            raise CannotServeError(str(error)) from error
        result = simulate(
            self.trace,
            deployment,
            router=self.router,
            seed=self.seed,
            time_limit_s=self.time_limit_s,
            metrics=self.metrics,
            faults=self.faults,
            check=self.check,
        )
        missed, values = self.slo.missed(result), self.slo.values(result)
        unmeasured = {name: NEVER_S if name in missed else 0.0 for name in values}
        seconds = {name: unmeasured[name] if value is None else value for name, value in values.items()}
        return Served(seconds, not result.summary["overloaded"], lasting_warnings(result))


def build_search(config: DictConfig) -> SearchTask:
    """Build a search.

    Args:
        config: `configs/search.yaml`, composed.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    node = config.search
    space = _space(node)
    if node.storage is not None and not (isinstance(node.storage, str) and node.storage):
        raise ConfigError(f"search.storage must be NAME.journal, sqlite:///NAME.db or null, got {node.storage!r}")
    trials = require_integer(node.trials, "search.trials", 1)
    parts = build_experiment(_smallest(config), ("search",))
    with named("trace"):
        trace = parts["workload"].trace(parts["seed"])
    if any(isinstance(bound, DictConfig) and "decode_iterations" in bound for bound in config.slo.values()):
        raise ConfigError("slo: a search compares deployments, so set bounds in seconds, for example slo.tbt_p99=0.2")
    slo = require_slo(build_objectives(config.slo, parts["deployment"], trace.clients))
    load = _load(trace, parts["deployment"], parts["metrics"])
    policies = {name: _budgets(config, name, space) for name in space.schedulers}
    build = _builder(config, space.devices)
    kept, pruned = options(space, slo, load, build)
    problem = _problem(config, space, build)
    return SearchTask(
        kept=kept,
        pruned=pruned,
        policies=policies,
        slo=slo,
        max_gpus=space.max_gpus,
        trials=trials,
        storage=node.storage,
        seed=parts["seed"],
        problem=problem,
        build=build,
        trace=trace,
        router=parts["router"],
        time_limit_s=parts["time_limit_s"],
        metrics=parts["metrics"],
        faults=parts["faults"],
        check=parts["check"],
    )


def _space(node: Any) -> Space:
    require_mapping(node, "search")
    require_keys(node, "search", _KEYS)
    return Space(
        devices=_list(node.devices, "search.devices", str),
        tp=_list(node.tp, "search.tp", int),
        pp=_list(node.pp, "search.pp", int),
        schedulers=_list(node.schedulers, "search.schedulers", str),
        token_budgets=_list(node.token_budgets, "search.token_budgets", int),
        max_gpus=require_integer(node.max_gpus, "search.max_gpus", 1),
    )


def _load(trace: Trace, deployment: Deployment, metrics: MetricOptions) -> Load:
    """Return the load of the measured requests.

    Rejected requests and those of the warm-up are left out.

    Raises:
        ConfigError: There are no such requests.
    """
    assert trace.arrival_s is not None
    # Requests that wait for an answer may arrive at any time, so there is no lower bound on the rate.
    waits = np.isnan(trace.arrival_s)
    is_admitted = trace.prompt_tokens <= deployment.model.max_model_len
    is_measured = is_admitted & ((trace.arrival_s >= metrics.warmup_s) | waits)
    if not is_measured.any():
        raise ConfigError("no request is left to measure: all are longer than model.max_model_len or in the warm-up")
    span_s = 0.0 if waits.any() else float(trace.arrival_s[-1])
    measured = Trace(trace.prompt_tokens[is_measured], trace.output_tokens[is_measured])
    share = float(np.count_nonzero(is_admitted)) / len(trace)
    return Load.of(measured, share * len(trace) / span_s if span_s > 0 else 0.0)


def _problem(config: DictConfig, space: Space, build: Build) -> dict[str, Any]:
    """Return the identity of a search.

    Load, axes, components of the candidates, and digests.
    """
    problem = resolved(config)
    problem["search"] = {name: value for name, value in problem["search"].items() if name not in ("trials", "storage")}
    bases = [(device, scheduler) for device in space.devices for scheduler in space.schedulers]
    parts = {f"{device} {scheduler}": repr(build(device, 1, 1, scheduler)) for device, scheduler in bases}
    return {**problem, "candidates": parts, "inputs": input_digests(config), "code": code_digest()}


def _smallest(config: DictConfig) -> DictConfig:
    """Return the configuration with the smallest deployment.

    The configured deployment need not fit.
    """
    smallest = config.copy()
    OmegaConf.set_struct(smallest, False)
    smallest.kv_cache.num_blocks = 1
    smallest.cluster.replicas, smallest.cluster.groups, smallest.cluster.num_nodes = 1, None, None
    smallest.parallel.tp = smallest.parallel.pp = 1
    return smallest


def _builder(config: DictConfig, devices: Sequence[str]) -> Build:
    """Return a function that builds a deployment of one replica.

    Each device and policy is composed once.

    Raises:
        ConfigError: There is no such device.
    """
    for device in devices:
        deployment_of(_smallest(config), OmegaConf.create({"device": device}))

    @cache
    def base(device: str, scheduler: str) -> Deployment:
        return deployment_of(config, OmegaConf.create({"device": device, "scheduler": scheduler, "replicas": 1}))

    def build(device: str, tp: int, pp: int, scheduler: str) -> Deployment:
        deployment = base(device, scheduler)
        return replace(deployment, parallel=replace(deployment.parallel, tp=tp, pp=pp))

    return build


def _budgets(config: DictConfig, scheduler: str, space: Space) -> list[int]:
    """Return the token budgets of a policy; empty if it has none.

    Raises:
        ConfigError: There is no such policy, or it does not allow a budget.
    """
    group = OmegaConf.create({"scheduler": scheduler})
    with named("search.schedulers", ": "):
        deployment = deployment_of(_smallest(config), group)
    if not has_token_budget(deployment):
        return []
    with named("search.token_budgets", ": "):
        for budget in space.token_budgets:
            with_token_budget(deployment, budget)
    return list(space.token_budgets)


def _list(node: Any, key: str, kind: type) -> list[Any]:
    values = list(node) if isinstance(node, ListConfig) else []
    is_valid = all(type(value) is kind and not (isinstance(value, int) and value < 1) for value in values)
    if not values or not is_valid or len(set(values)) != len(values):
        items = "names" if kind is str else "integers of at least 1"
        raise ConfigError(f"{key} must be a list of different {items}, got {node}")
    return values
