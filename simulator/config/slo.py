"""Objectives of the configuration: bounds that depend on the deployment become seconds."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from simulator.cluster import Deployment, groups_of
from simulator.config.components import ConfigError, named, require_mapping
from simulator.replica import Batch
from simulator.results import ALLOWED, SLO, objectives_of
from traces import Client
from traces.shared.value_checks import number

# Decodes, and context tokens of each, in the iteration that the paper's SLO counts (arXiv:2403.02310, section 5.1).
REFERENCE_DECODES, REFERENCE_CONTEXT = 32, 4096


def build_slo(node: Any, deployment: Deployment | Sequence[Deployment], clients: Sequence[Client] = ()) -> SLO:
    """Build the SLO of a deployment, empty without a bound.

    Args:
        node: Bounds for all requests by objective: seconds, {decode_iterations: N} or {by_model: {NAME: SECONDS}}; or
            the share of goodput.
        deployment: Deployment, or the groups of a cluster.
        clients: Client classes, whose bounds are added.

    Raises:
        ConfigError: An objective or a bound is not allowed.
    """
    require_mapping(node, "slo")
    given = {str(name): bound for name, bound in node.items() if bound is not None}
    bounds = {name: _bound(f"slo.{name}", bound, deployment) for name, bound in given.items()}
    with named("slo", "."):
        slo = SLO.of(bounds)
    with named("trace", "."):
        return slo + objectives_of(clients)


def require_objectives(slo: SLO) -> None:
    """Check that an SLO has an objective of the run.

    Raises:
        ConfigError: There is none.
    """
    if not slo:
        raise ConfigError(f"slo: there is no objective: {ALLOWED}")
    if not slo.every:
        bound = slo.requests[0]
        raise ConfigError(
            f"slo.{bound.name} bounds single requests: add slo.goodput=0.9, the share of them within their bounds, or "
            f"bound a percentile, slo.{bound.name}_p99={bound.bound_s:g}"
        )


def reference_iteration_s(deployment: Deployment | Sequence[Deployment]) -> float:
    """Return the seconds of the reference decode iteration, in the slowest group.

    It has 32 requests with 4,096 tokens each.
    """
    batch = Batch.of([], [(REFERENCE_DECODES, REFERENCE_CONTEXT)])
    return max(sum(group.stage_times()(batch)) for group in groups_of(deployment))


def _bound(key: str, bound: Any, deployment: Deployment | Sequence[Deployment]) -> Any:
    """Return a bound as a number; `Objective` rejects values that are none."""
    if not isinstance(bound, DictConfig):
        return bound
    value: Any
    (kind, value), *others = bound.items() if len(bound) else [("", None)]
    if others or kind not in ("decode_iterations", "by_model"):
        raise ConfigError(
            f"{key} must be seconds, {{decode_iterations: N}} or {{by_model: {{NAME: SECONDS}}}}, got {bound}"
        )
    if kind == "decode_iterations":
        with named(""):
            number(f"{key}.decode_iterations", value, 0, excluding="low")
            return value * reference_iteration_s(deployment)
    require_mapping(value, f"{key}.by_model")
    models = {group.model.name for group in groups_of(deployment)}
    unknown = sorted(models - set(value))
    if unknown:
        known = ", ".join(map(str, value))
        raise ConfigError(f"{key} has no bound for model {unknown[0]}, only for {known}; set {key}=SECONDS")
    return max(value[model] for model in models)
