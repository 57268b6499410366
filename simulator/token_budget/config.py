"""Builds the token budget task from its configuration."""

from dataclasses import dataclass, replace

from omegaconf import DictConfig

from simulator.capacity import CapacityTask, build_capacity, find_capacity
from simulator.cluster import Deployment, has_token_budget, with_token_budget
from simulator.config import (
    ConfigError,
    build_experiment,
    build_slo,
    integer_pairs,
    named,
    require_integer,
    require_keys,
)
from simulator.token_budget.curve import IterationLoad
from traces.shared.value_checks import flag

_KEYS = ("decode", "prefill_context", "tile", "max_tokens", "maximize_capacity")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class BudgetTask:
    """Settings of a token budget search.

    Attributes:
        task: Load and capacity search; None: the capacity is not maximized.
        deployment: The deployment.
        load: Decodes and context of the profiled iterations.
        tile: Budgets are multiples of this many tokens.
        max_tokens: Largest budget, tokens.
        bound_s: Bound on the TBT, seconds.
    """

    task: CapacityTask | None
    deployment: Deployment
    load: IterationLoad
    tile: int
    max_tokens: int
    bound_s: float

    def capacity(self, budget: int) -> float:
        """Return the capacity at a budget, requests/s: the mean over the seeds."""
        assert self.task is not None
        experiment = replace(self.task.experiment, deployment=with_token_budget(self.deployment, budget))
        rates = [find_capacity(experiment.trials(seed), self.task.search).qps for seed in self.task.seeds]
        return sum(rates) / len(rates)


def build_budget(config: DictConfig) -> BudgetTask:
    """Build the task from a configuration composed from `configs/token_budget.yaml`.

    Raises:
        ConfigError: A key or a value is not allowed; the message names it.
    """
    node = config.token_budget
    require_keys(node, "token_budget", _KEYS)
    with named("token_budget"):
        flag("maximize_capacity", node.maximize_capacity)
    task = build_capacity(config, ("token_budget",)) if node.maximize_capacity else None
    deployment = build_experiment(config, ("default_slo", "capacity", "token_budget"))["deployment"]
    if not isinstance(deployment, Deployment):
        raise ConfigError("cluster.groups must be null: a token budget is for one deployment")
    slo = build_slo(config.slo, deployment) or build_slo(config.default_slo, deployment)
    bounds = [objective.bound_s for objective in slo.objectives if objective.metric == "tbt"]
    if not bounds:
        raise ConfigError("slo has no bound on the TBT; add one, for example slo.tbt_p99=0.2")
    tile = require_integer(node.tile, "token_budget.tile", 1)
    max_tokens = require_integer(node.max_tokens, "token_budget.max_tokens", tile, _LARGEST)
    if task is not None and not has_token_budget(deployment):
        raise ConfigError(
            f"scheduler {type(deployment.scheduler).__name__} has no token budget; use sarathi or vllm_v1"
        )
    decode = integer_pairs(node.decode, "token_budget.decode", "[number of decodes, tokens of each]", (1, 1))
    context = require_integer(node.prefill_context, "token_budget.prefill_context", 0)
    load = IterationLoad(decode, context)
    if load.num_decodes >= max_tokens:
        raise ConfigError(
            f"token_budget.decode: {load.num_decodes} decodes leave no tokens for a prefill in "
            f"token_budget.max_tokens={max_tokens}"
        )
    longest = deployment.model.max_model_len
    for key, tokens in (("decode", max((count for _, count in decode), default=0)), ("prefill_context", context)):
        if tokens > longest:
            raise ConfigError(f"token_budget.{key}: {tokens} tokens exceed model.max_model_len={longest}")
    return BudgetTask(task, deployment, load, tile, max_tokens, min(bounds))
