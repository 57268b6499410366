"""Builds what the configuration says of a token budget."""

from dataclasses import dataclass, replace

from omegaconf import DictConfig

from simulator.capacity import CapacityTask, build_capacity, build_slo, find_capacity
from simulator.cluster import Deployment, has_token_budget, with_token_budget
from simulator.config import (
    ConfigError,
    build_experiment,
    integer_pairs,
    require_integer,
    require_keys,
    require_mapping,
)
from simulator.token_budget.curve import IterationLoad

_KEYS = ("decode", "prefill_context", "tile", "max_tokens", "maximize_capacity")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class BudgetTask:
    """What was asked for.

    Attributes:
        task: Load and search of a capacity; None: it is not asked for.
        deployment: The deployment.
        load: What shares an iteration with the chunk.
        tile: Budgets are multiples of it.
        max_tokens: Largest budget.
        bound_s: Bound on the TBT.
    """

    task: CapacityTask | None
    deployment: Deployment
    load: IterationLoad
    tile: int
    max_tokens: int
    bound_s: float

    def capacity(self, budget: int) -> float:
        """Requests per second with a budget: the mean over the seeds."""
        assert self.task is not None
        experiment = replace(self.task.experiment, deployment=with_token_budget(self.deployment, budget))
        rates = [find_capacity(experiment.trials(seed), self.task.search).qps for seed in self.task.seeds]
        return sum(rates) / len(rates)


def build_budget(config: DictConfig) -> BudgetTask:
    """Build what `configs/token_budget.yaml` composes.

    Raises:
        ConfigError: A key or a value that is not allowed; the message names it.
    """
    node = config.token_budget
    require_mapping(node, "token_budget")
    require_keys(node, "token_budget", _KEYS)
    if not isinstance(node.maximize_capacity, bool):
        raise ConfigError(f"token_budget.maximize_capacity must be true or false, got {node.maximize_capacity!r}")
    task = build_capacity(config, ("token_budget",)) if node.maximize_capacity else None
    deployment = build_experiment(config, ("slo", "capacity", "token_budget"))["deployment"]
    if not isinstance(deployment, Deployment):
        raise ConfigError("cluster.groups: a token budget is found for one deployment at a time")
    bounds = [one.bound_s for one in build_slo(config.slo, deployment).objectives if one.metric == "tbt"]
    if not bounds:
        raise ConfigError("slo has no bound on the TBT; give it one, for example slo.tbt_p99=0.2")
    tile = require_integer(node.tile, "token_budget.tile", 1)
    max_tokens = require_integer(node.max_tokens, "token_budget.max_tokens", tile)
    if max_tokens > _LARGEST:
        raise ConfigError(f"token_budget.max_tokens must be at most {_LARGEST}, got {max_tokens}")
    if task is not None and not task.experiment.slo.bounds_waiting:
        raise ConfigError("slo: nothing in it bounds how long requests wait, so that every load would be within it")
    if task is not None and not has_token_budget(deployment):
        raise ConfigError(
            f"scheduler {type(deployment.scheduler).__name__} has no token budget; sarathi and vllm_v1 have"
        )
    decode = integer_pairs(node.decode, "token_budget.decode", "[number of decodes, tokens of each]", (1, 1))
    context = require_integer(node.prefill_context, "token_budget.prefill_context", 0)
    load = IterationLoad(decode, context)
    if load.num_decodes >= max_tokens:
        raise ConfigError(
            f"token_budget.decode: {load.num_decodes} decodes leave no token of token_budget.max_tokens={max_tokens}"
        )
    longest = deployment.model.max_model_len
    for key, tokens in (("decode", max((count for _, count in decode), default=0)), ("prefill_context", context)):
        if tokens > longest:
            raise ConfigError(f"token_budget.{key}: {tokens} tokens are more than model.max_model_len={longest}")
    return BudgetTask(task, deployment, load, tile, max_tokens, min(bounds))
