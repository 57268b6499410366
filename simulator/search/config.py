"""Build a search from the configuration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from simulator.capacity import lasting_warnings
from simulator.cluster import Deployment, Faults, has_token_budget, with_token_budget
from simulator.config import (
    ConfigError,
    build_experiment,
    build_slo,
    chosen,
    code_digest,
    composed,
    deployment_of,
    input_digests,
    named,
    recomposed,
    require_integer,
    require_keys,
    require_mapping,
    require_objectives,
    resolved,
    to_hydra,
)
from simulator.results import SLO, MetricOptions
from simulator.routers import Router
from simulator.search.bounds import Load
from simulator.search.cheapest import CannotServeError, Served
from simulator.search.outcomes import NEVER_S, Candidate, Outcome
from simulator.search.space import Build, Option, Pruned, Space, options
from simulator.simulation import simulate
from traces import Trace

CONFIG = "search"
_KEYS = ("devices", "tp", "pp", "schedulers", "token_budgets", "max_gpus", "trials", "storage")


@dataclass(frozen=True)
class SearchTask:
    """A search to run.

    Attributes:
        kept: Devices and layouts to search.
        pruned: Devices and layouts that are ruled out, with the reasons.
        slo: SLO of the deployments.
        max_gpus: Maximum number of GPUs of a deployment.
        trials: Maximum number of trials.
        storage: Storage of the trials, see `cheapest.open_storage`.
        seed: Seed of the load and of the proposals.
        problem: Identity of the search.
        build: Returns a deployment of one replica for a device, tp, pp and scheduler.
        trace: Load.
        trace_name: Choice of `trace=`.
        qps: Rate of the load, requests/s; 0: requests wait for answers.
        model_path: The model's config.json; None: a model of `configs/model`.
        router: Chooses the replica of a request.
        time_limit_s: Simulated seconds of a trial; None: no limit.
        metrics: Options of the metrics.
        faults: Faults to inject.
        check: Whether to check invariants, see `simulate`.
    """

    kept: Sequence[Option]
    pruned: Sequence[Pruned]
    slo: SLO
    max_gpus: int
    trials: int
    storage: str | None
    seed: int
    problem: Mapping[str, Any]
    build: Build
    trace: Trace
    trace_name: str
    qps: float
    model_path: str | None
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
        layout = (option.device, option.tp, option.pp)
        deployment = self.deployment(*layout, candidate.scheduler, candidate.token_budget, candidate.replicas)
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
        return Served(
            seconds,
            not result.overloaded or self.slo.bounds_queue,
            [warning.text for warning in lasting_warnings(result)],
            vars(deployment.scheduler).get("max_num_seqs"),
            deployment.kv_cache.memory_utilization,
        )

    def deployment_of(self, outcome: Outcome) -> Deployment:
        """Return the deployment of an outcome."""
        layout = (outcome.device, outcome.tp, outcome.pp)
        return self.deployment(*layout, outcome.scheduler, outcome.token_budget, outcome.replicas)

    def deployment(
        self, device: str, tp: int, pp: int, scheduler: str, token_budget: int | None, replicas: int
    ) -> Deployment:
        """Return a deployment to simulate."""
        deployment = replace(self.build(device, tp, pp, scheduler), num_replicas=replicas)
        return deployment if token_budget is None else _with_budget(deployment, token_budget)


def load_search(*overrides: str) -> SearchTask:
    """Compose `configs/search.yaml` and build the search.

    Args:
        overrides: As on the command line, for example "model=llama3_8b", "slo.tbt_p99=0.2".

    Raises:
        ConfigError: An override is not allowed; the message is one line that names it.
    """
    with composed(CONFIG, overrides) as config:
        return build_search(config, to_hydra(overrides))


def build_search(config: DictConfig, overrides: Sequence[str]) -> SearchTask:
    """Build a search.

    Args:
        config: `configs/search.yaml`, composed.
        overrides: Those of `config`, in Hydra's syntax.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    node = config.search
    choices = chosen(CONFIG, overrides)
    space = _space(node, choices["scheduler"])
    if node.storage is not None and not (isinstance(node.storage, str) and node.storage):
        raise ConfigError(f"search.storage must be NAME.journal, sqlite:///NAME.db or null, got {node.storage!r}")
    trials = require_integer(node.trials, "search.trials", 1)
    if config.arrival.get("qps") == math.inf:
        raise ConfigError("arrival.qps=inf: a search needs a rate, requests/s, which its deployments must sustain")
    parts = build_experiment(_smallest(config), ("search",))
    with named("trace"):
        trace = parts["workload"].trace(parts["seed"])
    if any(isinstance(bound, DictConfig) and "decode_iterations" in bound for bound in config.slo.values()):
        raise ConfigError("slo: a search compares deployments, so set bounds in seconds, for example slo.tbt_p99=0.2")
    slo = build_slo(config.slo, parts["deployment"], trace.clients)
    require_objectives(slo)
    load = _load(trace, parts["deployment"], parts["metrics"])
    build = _builder(overrides, space)
    _require_budgets(build, space)
    kept, pruned = options(space, slo, load, build)
    problem = _problem(config, space, build)
    return SearchTask(
        kept=kept,
        pruned=pruned,
        slo=slo,
        max_gpus=space.max_gpus,
        trials=trials,
        storage=node.storage,
        seed=parts["seed"],
        problem=problem,
        build=build,
        trace=trace,
        trace_name=choices["trace"],
        qps=config.arrival.get("qps") or load.qps,
        model_path=config.model.get("path"),
        router=parts["router"],
        time_limit_s=parts["time_limit_s"],
        metrics=parts["metrics"],
        faults=parts["faults"],
        check=parts["check"],
    )


def _space(node: Any, scheduler: str) -> Space:
    require_mapping(node, "search")
    require_keys(node, "search", _KEYS)
    is_listed = node.schedulers is not None
    return Space(
        devices=_list(node.devices, "search.devices", str),
        tp=_list(node.tp, "search.tp", int),
        pp=_list(node.pp, "search.pp", int),
        schedulers=_list(node.schedulers, "search.schedulers", str) if is_listed else [scheduler],
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


def _builder(overrides: Sequence[str], space: Space) -> Build:
    """Return a function that builds a deployment of one replica.

    Each device and policy is what the other commands compose for it, with its own engine and defaults.

    Raises:
        ConfigError: There is no such device or policy.
    """
    bases: dict[tuple[str, str], Deployment] = {}
    for device in space.devices:
        for scheduler in space.schedulers:
            with named("search.devices, search.schedulers", ": "):
                candidate = recomposed(CONFIG, overrides, {"device": device, "scheduler": scheduler})
            bases[device, scheduler] = deployment_of(candidate, OmegaConf.create({"replicas": 1}))

    def build(device: str, tp: int, pp: int, scheduler: str) -> Deployment:
        deployment = bases[device, scheduler]
        return replace(deployment, parallel=replace(deployment.parallel, tp=tp, pp=pp))

    return build


def _with_budget(deployment: Deployment, budget: int) -> Deployment:
    """Return a copy of a deployment with another token budget.

    At most as many requests run as an iteration has tokens: vLLM refuses more, and sarathi-serve fails with them.
    """
    changed = with_token_budget(deployment, budget)
    scheduler: Any = changed.scheduler
    if vars(scheduler).get("max_num_seqs", 0) > budget:
        changed = replace(changed, scheduler=replace(scheduler, max_num_seqs=budget))
    return changed


def _require_budgets(build: Build, space: Space) -> None:
    """Check that the policies allow the token budgets.

    Raises:
        ConfigError: A policy refuses one.
    """
    for scheduler in space.schedulers:
        deployment = build(space.devices[0], 1, 1, scheduler)
        with named("search.token_budgets", ": "):
            for budget in space.token_budgets if has_token_budget(deployment) else ():
                with_token_budget(deployment, budget)


def _list(node: Any, key: str, kind: type) -> list[Any]:
    values = list(node) if isinstance(node, ListConfig) else []
    is_valid = all(type(value) is kind and not (isinstance(value, int) and value < 1) for value in values)
    if not values or not is_valid or len(set(values)) != len(values):
        items = "names" if kind is str else "integers of at least 1"
        raise ConfigError(f"{key} must be a list of different {items}, got {node}")
    return values
