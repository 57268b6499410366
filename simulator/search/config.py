"""Build a search from the configuration."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from simulator.capacity import lasting_warnings
from simulator.cluster import Deployment, token_budget_of, with_token_budget
from simulator.config import (
    ConfigError,
    build_experiment,
    build_slo,
    chosen,
    code_digest,
    deployment_of,
    input_digests,
    named,
    recomposed,
    require_integer,
    require_keys,
    require_mapping,
    require_objectives,
    resolved,
)
from simulator.results import SLO, MetricOptions
from simulator.search.bounds import Load
from simulator.search.outcomes import NEVER_S, Candidate, Outcome
from simulator.search.space import Option, Pruned, options
from simulator.simulation import simulate
from traces import Trace

CONFIG = "search"
_KEYS = ("devices", "tp", "pp", "schedulers", "token_budgets", "max_gpus", "trials", "storage")


@dataclass(frozen=True)
class SearchTask:
    """A search to run.

    Attributes:
        kept: What to search.
        pruned: What is ruled out, with the reasons.
        slo: SLO of the deployments.
        trials: Maximum number of simulated deployments.
        storage: File of the simulated deployments; None: none.
        identity: What outcomes depend on besides the candidate.
        trace: Load.
        trace_name: Choice of `trace=`.
        qps: Rate of the load, requests/s; 0: requests wait for answers.
        model_path: The model's config.json; None: a model of `configs/model`.
        settings: Arguments of `simulate` besides trace and deployment.
    """

    kept: Sequence[Option]
    pruned: Sequence[Pruned]
    slo: SLO
    trials: int
    storage: Path | None
    identity: Mapping[str, Any]
    trace: Trace
    trace_name: str
    qps: float
    model_path: str | None
    settings: Mapping[str, Any]

    def simulate(self, candidate: Candidate) -> Outcome:
        """Simulate the load with a candidate."""
        option = candidate.option
        deployment = replace(option.deployment, num_replicas=candidate.replicas)
        result = simulate(self.trace, deployment, **self.settings)
        missed, values = self.slo.missed(result), self.slo.values(result)
        unmeasured = {name: NEVER_S if name in missed else 0.0 for name in values}
        return Outcome(
            device=option.device,
            tp=option.tp,
            pp=option.pp,
            replicas=candidate.replicas,
            scheduler=option.scheduler,
            token_budget=option.token_budget,
            max_num_seqs=deployment.scheduler.limits.max_num_seqs,
            memory_utilization=deployment.kv_cache.memory_utilization,
            num_gpus=candidate.replicas * option.tp * option.pp,
            cost_per_hour_usd=candidate.replicas * option.price_per_hour_usd,
            values={name: unmeasured[name] if value is None else value for name, value in values.items()},
            met=not missed and (not result.overloaded or self.slo.bounds_queue),
            warnings=[warning.text for warning in lasting_warnings(result)],
        )

    def deployment_of(self, outcome: Outcome) -> Deployment:
        """Return the deployment of an outcome."""
        (option,) = (one for one in self.kept if (*one.layout, one.scheduler, one.token_budget) == outcome.option)
        return replace(option.deployment, num_replicas=outcome.replicas)


def build_search(config: DictConfig, overrides: Sequence[str]) -> SearchTask:
    """Build a search.

    Args:
        config: `configs/search.yaml`, composed.
        overrides: Those of `config`, in Hydra's syntax.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    choices = chosen(CONFIG, overrides)
    axes = _axes(config.search, choices["scheduler"])
    if config.arrival.get("qps") == math.inf:
        raise ConfigError("arrival.qps=inf: a search needs a rate, requests/s, which its deployments must sustain")
    parts = build_experiment(_smallest(config), ("search",))
    with named("trace"):
        trace = parts.pop("workload").trace(parts["seed"])
    start = parts.pop("deployment")
    slo = _slo(config, start, trace)
    load = _load(trace, start, parts["metrics"])
    layouts = list(product(axes["tp"], axes["pp"]))
    kept, pruned = options(_bases(axes, overrides), layouts, axes["max_gpus"], slo, load)
    same = {name: value for name, value in resolved(config).items() if name != "search"}
    return SearchTask(
        kept=kept,
        pruned=pruned,
        slo=slo,
        trials=axes["trials"],
        storage=None if axes["storage"] is None else Path(axes["storage"]),
        identity={**same, "inputs": input_digests(config), "code": code_digest()},
        trace=trace,
        trace_name=choices["trace"],
        qps=config.arrival.get("qps") or load.qps,
        model_path=config.model.get("path"),
        settings=parts,
    )


def _axes(node: Any, scheduler: str) -> dict[str, Any]:
    """Return what is searched, and the limits, by key.

    Raises:
        ConfigError: A value is not allowed.
    """
    require_mapping(node, "search")
    require_keys(node, "search", _KEYS)
    lists = {"devices": str, "tp": int, "pp": int, "token_budgets": int} | (
        {} if node.schedulers is None else {"schedulers": str}
    )
    if node.storage is not None and not (isinstance(node.storage, str) and node.storage.endswith(".jsonl")):
        raise ConfigError(f"search.storage must be a file NAME.jsonl or null, got {node.storage!r}")
    limits = {name: require_integer(node[name], f"search.{name}", 1) for name in ("max_gpus", "trials")}
    listed = {name: _list(node[name], f"search.{name}", kind) for name, kind in lists.items()}
    return {"schedulers": [scheduler], "storage": node.storage, **limits, **listed}


def _slo(config: DictConfig, deployment: Deployment, trace: Trace) -> SLO:
    if any(isinstance(bound, DictConfig) and "decode_iterations" in bound for bound in config.slo.values()):
        raise ConfigError("slo: a search compares deployments, so set bounds in seconds, for example slo.tbt_p99=0.2")
    slo = build_slo(config.slo, deployment, trace.clients)
    require_objectives(slo)
    return slo


def _bases(axes: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, list[tuple[str, Deployment]]]:
    """Return deployments of one replica by device, with their policies' names.

    Each is what the other commands compose, with the device's own engine and defaults.

    Raises:
        ConfigError: There is no such device or policy, or a policy refuses a token budget.
    """
    bases: dict[str, list[tuple[str, Deployment]]] = {}
    for device, scheduler in product(axes["devices"], axes["schedulers"]):
        with named("search.devices, search.schedulers", ": "):
            candidate = recomposed(CONFIG, overrides, {"device": device, "scheduler": scheduler})
        base = deployment_of(candidate, OmegaConf.create({"replicas": 1}))
        with named("search.token_budgets", ": "):
            bases.setdefault(device, []).extend(
                (scheduler, each) for each in _with_budgets(base, axes["token_budgets"])
            )
    return bases


def _with_budgets(base: Deployment, budgets: Sequence[int]) -> Iterator[Deployment]:
    """Yield a deployment with its own token budget, then the others.

    Only itself if its policy has none. At most as many requests run as an iteration has tokens: vLLM refuses more, and
    sarathi-serve fails with them.
    """
    yield base
    own = token_budget_of(base)
    for budget in (budget for budget in budgets if own not in (None, budget)):
        changed = with_token_budget(base, budget)
        scheduler: Any = changed.scheduler
        if vars(scheduler).get("max_num_seqs", 0) > budget:
            changed = replace(changed, scheduler=replace(scheduler, max_num_seqs=budget))
        yield changed


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


def _list(node: Any, key: str, kind: type) -> list[Any]:
    values = list(node) if isinstance(node, ListConfig) else []
    is_valid = all(type(value) is kind and not (isinstance(value, int) and value < 1) for value in values)
    if not values or not is_valid or len(set(values)) != len(values):
        items = "names" if kind is str else "integers of at least 1"
        raise ConfigError(f"{key} must be a list of different {items}, got {node}")
    return values
