"""Builds what the configuration says of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from simulator.capacity import build_slo, lasting_warnings
from simulator.cluster import Deployment, Faults, has_token_budget, with_token_budget
from simulator.config import (
    ConfigError,
    build_experiment,
    code_digest,
    deployment_of,
    input_digests,
    named,
    require_integer,
    require_keys,
    require_mapping,
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
    """A search as it was asked for.

    Attributes:
        kept: Devices and layouts that may win.
        pruned: Those that cannot, with the reason.
        policies: Token budgets by policy; empty where it has none.
        slo: What has to be met.
        max_gpus: GPUs of a deployment at most.
        trials: Trials in all.
        storage: Where they are kept.
        seed: Seed of the load and of the proposals.
        problem: What makes two searches the same.
        build: Returns a replica of a device, tp, pp and scheduler.
        trace: The load.
        router: Chooses the replica of a request.
        time_limit_s: Seconds of serving.
        metrics: What the figures leave out and count.
        faults: What goes wrong.
        check: Check every run, see `simulate`.
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
        """Serve the load with a candidate.

        Raises:
            CannotServeError: It does not fit its machines or memory.
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
        never = {name: NEVER_S if name in missed else 0.0 for name in values}
        seconds = {name: never[name] if value is None else value for name, value in values.items()}
        return Served(seconds, not result.summary["overloaded"], lasting_warnings(result))


def build_search(config: DictConfig) -> SearchTask:
    """Build what `configs/search.yaml` composes.

    Raises:
        ConfigError: A key or a value that is not allowed; the message names it.
    """
    node = config.search
    space = _space(node)
    if node.storage is not None and not (isinstance(node.storage, str) and node.storage):
        raise ConfigError(f"search.storage must be NAME.journal, sqlite:///NAME.db or null, got {node.storage!r}")
    trials = require_integer(node.trials, "search.trials", 1)
    parts = build_experiment(_smallest(config), ("slo", "search"))
    with named("trace"):
        trace = parts["workload"].trace(parts["seed"])
    if any(isinstance(bound, DictConfig) and "decode_iterations" in bound for bound in config.slo.values()):
        raise ConfigError("slo: a search compares deployments, so give bounds in seconds, for example slo.tbt_p99=0.2")
    slo = build_slo(config.slo, parts["deployment"], trace.clients)
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
    """Measure the requests that count: what an engine refuses or the warm-up leaves out sets no bound.

    Raises:
        ConfigError: There are none.
    """
    assert trace.arrival_s is not None
    # What waits for an answer may arrive at any time, so that nothing bounds the rate from below either.
    waits = np.isnan(trace.arrival_s)
    counts = (trace.prompt_tokens <= deployment.model.max_model_len) & ((trace.arrival_s >= metrics.warmup_s) | waits)
    if not counts.any():
        raise ConfigError("no request is left to measure: all are longer than model.max_model_len or in the warm-up")
    span_s = 0.0 if waits.any() else float(trace.arrival_s[-1])
    admitted = Trace(trace.prompt_tokens[counts], trace.output_tokens[counts])
    share = float(np.count_nonzero(trace.prompt_tokens <= deployment.model.max_model_len)) / len(trace)
    return Load.of(admitted, share * len(trace) / span_s if span_s > 0 else 0.0)


def _problem(config: DictConfig, space: Space, build: Build) -> dict[str, Any]:
    """Return what makes two searches the same: the load, the axes, and what every candidate is made of."""
    problem = resolved(config)
    problem["search"] = {name: value for name, value in problem["search"].items() if name not in ("trials", "storage")}
    bases = [(device, scheduler) for device in space.devices for scheduler in space.schedulers]
    parts = {f"{device} {scheduler}": repr(build(device, 1, 1, scheduler)) for device, scheduler in bases}
    return {**problem, "candidates": parts, "inputs": input_digests(config), "code": code_digest()}


def _smallest(config: DictConfig) -> DictConfig:
    """Return the configuration without what the search decides, so that its own deployment need not fit."""
    own = config.copy()
    OmegaConf.set_struct(own, False)
    own.kv_cache.num_blocks = 1
    own.cluster.replicas, own.cluster.groups, own.cluster.num_nodes = 1, None, None
    own.parallel.tp = own.parallel.pp = 1
    return own


def _builder(config: DictConfig, devices: Sequence[str]) -> Build:
    """Return what builds a replica; a device with a policy is composed once. Checks that there are such devices."""
    for device in devices:
        deployment_of(_smallest(config), OmegaConf.create({"device": device}))

    @cache
    def base(device: str, scheduler: str) -> Deployment:
        return deployment_of(config, OmegaConf.create({"device": device, "scheduler": scheduler, "replicas": 1}))

    def build(device: str, tp: int, pp: int, scheduler: str) -> Deployment:
        found = base(device, scheduler)
        return replace(found, parallel=replace(found.parallel, tp=tp, pp=pp))

    return build


def _budgets(config: DictConfig, scheduler: str, space: Space) -> list[int]:
    """Token budgets that a policy can have; checks that there is such a policy."""
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
    good = all(type(one) is kind and not (isinstance(one, int) and one < 1) for one in values)
    if not values or not good or len(set(values)) != len(values):
        what = "names" if kind is str else "whole numbers of at least 1"
        raise ConfigError(f"{key} must be a list of different {what}, got {node}")
    return values
