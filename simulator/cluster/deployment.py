"""A deployment: identical replicas of a model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

from simulator.cluster.faults import MOST_REPLICAS
from simulator.cluster.replica_spec import ReplicaSpec
from simulator.iteration_time import IterationTime, Profile, StageTimes
from simulator.model import Device, EngineOverhead, FrontEndTime, KVMemory, Layout, Model, Node, Parallelism, Placement
from simulator.schedulers import Limits, Sarathi, Scheduler
from traces.shared.value_checks import instance, integer

# Generations of kernels whose engines have no V1 scheduler.
_BEFORE_V1 = ("sarathi_serve",)


@dataclass(frozen=True)
class Deployment:
    """Identical replicas of a model.

    They are a whole cluster, or one group of a heterogeneous cluster.

    Attributes:
        model: Served model.
        device: GPU of each replica.
        scheduler: Scheduling policy of each replica.
        parallel: Parallelism of each replica.
        iteration_time: Model of iteration time.
        kv_cache: KV memory of each replica.
        num_replicas: Replicas behind the router.
        engine: Overhead of the serving engine; by default none.
        node: Machine that holds the GPUs; None: unknown, which is enough for replicas of one GPU.
        num_nodes: Available machines; None: as many as needed.
    """

    model: Model
    device: Device
    scheduler: Scheduler = field(default_factory=Sarathi)
    parallel: Parallelism = field(default_factory=Parallelism)
    iteration_time: IterationTime = field(default_factory=Profile)
    kv_cache: KVMemory = field(default_factory=KVMemory)
    num_replicas: int = 1
    engine: EngineOverhead = field(default_factory=EngineOverhead)
    node: Node | None = None
    num_nodes: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("replicas", self.num_replicas, 1, MOST_REPLICAS)
        integer("num_nodes", self.num_nodes, 1, optional=True)

    @property
    def caches_prefixes(self) -> bool:
        """Whether the replicas have a prefix cache."""
        return self.scheduler.limits.prefix_caching and self.kv_cache.prefix_caching is not False

    @property
    def layout(self) -> Layout:
        """Layout of each replica.

        Raises:
            ValueError: The model does not fit this parallelism.
        """
        return Layout(self.model, self.device, self.parallel, self.node, self.kv_cache.dtype)

    def stage_times(self, network_slowdown: float = 1.0) -> StageTimes:
        """Return the stage times of a replica.

        They are kept for all runs: building their tables takes longer than a short run.

        Args:
            network_slowdown: Factor on the times of messages.

        Raises:
            ValueError: The model does not fit this parallelism, or the engine was not measured on these hosts.
        """
        if network_slowdown not in self._times_by_slowdown:
            layout, model = replace(self.layout, network_slowdown=network_slowdown), self.iteration_time
            times = model.for_layout(layout, self.engine)
            instance(f"what {type(model).__name__}.for_layout returns", times, StageTimes, "StageTimes")
            self._times_by_slowdown[network_slowdown] = times
        return self._times_by_slowdown[network_slowdown]

    def __getstate__(self) -> dict[str, Any]:
        """Return the parts; tables of stage times are built again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _times_by_slowdown(self) -> dict[float, StageTimes]:
        return {}

    def replica_specs(self, group: int = 0) -> list[ReplicaSpec]:
        """Return the specification of each replica.

        Args:
            group: Number of this group in the cluster.

        Raises:
            ValueError: The model does not fit the parallelism, the memory or the available machines, or the engine
                does not have the scheduler.
        """
        self._require_nodes()
        limits = self.scheduler.limits
        if limits.uses_batch_queue:
            self._require_v1_engine(limits)
        if self.kv_cache.prefix_caching and not self.caches_prefixes:
            name = type(self.scheduler).__name__
            raise ValueError(f"kv_cache.prefix_caching=true needs scheduler=vllm_v1, and {name} has no prefix cache")
        price = self.device.price_per_hour_usd
        max_model_len = self.model.max_model_len
        profiled_tokens = limits.profiled_tokens(max_model_len)
        num_blocks = self.kv_cache.blocks_for(self.layout, profiled_tokens, limits.max_num_seqs, self.engine.memory)
        spec = ReplicaSpec(
            scheduler=self.scheduler,
            stage_times=self.stage_times(),
            num_blocks=num_blocks,
            block_size=self.kv_cache.block_size,
            watermark=self.kv_cache.watermark,
            max_model_len=max_model_len,
            overlap_sends=self.parallel.overlap_sends,
            front_end=self.engine.front_end or FrontEndTime(),
            prefix_caching=self.caches_prefixes,
            slow_network_times=self.stage_times if self.parallel.num_gpus > 1 else None,
            placement=Placement(
                group=group,
                device=self.device.name,
                node="" if self.node is None else self.node.name,
                tp=self.parallel.tp,
                pp=self.parallel.pp,
                price_per_hour_usd=None if price is None else price * self.parallel.num_gpus,
            ),
        )
        return [spec] * self.num_replicas

    def _require_v1_engine(self, limits: Limits) -> None:
        """Check that the engine has the V1 scheduler."""
        engine, is_async = self.engine, limits.lookahead > 0
        if engine.kernels in _BEFORE_V1:
            raise ValueError(
                f"engine has the host and the kernels of {engine.kernels}, which has no scheduler of vLLM V1; "
                "take engine=vllm_v1, vllm_v1_2025 or vllm_v1_sync"
            )
        if engine.hosts is not None and is_async != engine.async_scheduling:
            has, other = ("asynchronous", "synchronous")[:: 1 if engine.async_scheduling else -1]
            raise ValueError(
                f"engine has the host times of {has} scheduling, and the scheduler is {other}; "
                f"take engine={'vllm_v1' if is_async else 'vllm_v1_sync'}"
            )

    def describe(self) -> dict[str, Any]:
        """Return the parts of the deployment as plain values.

        A part that is no dataclass gives only its class name. `kernels` is the engine whose kernels were measured.
        """
        parts = ("model", "device", "node", "parallel", "scheduler", "kv_cache")
        provenance = self.stage_times().provenance
        return {
            "replicas": self.num_replicas,
            **{name: _describe(getattr(self, name)) for name in parts},
            "kernels": "" if provenance is None else provenance.generation,
        }

    def _require_nodes(self) -> None:
        if self.num_nodes is None:
            return
        needed = self.layout.nodes_for(self.num_replicas)
        if needed > self.num_nodes:
            node = self.layout.known_node
            raise ValueError(
                f"cluster.num_nodes={self.num_nodes}: {self.num_replicas} replicas of {self.parallel.num_gpus} GPUs "
                f"need {needed} machines of {node.num_gpus} GPUs ({node.name})"
            )


def groups_of(deployment: Deployment | Sequence[Deployment]) -> Sequence[Deployment]:
    """Return the groups of a cluster; a single deployment is one group."""
    return [deployment] if isinstance(deployment, Deployment) else deployment


def specs_of(groups: Sequence[Deployment]) -> list[ReplicaSpec]:
    """Return the specification of each replica of a cluster.

    Raises:
        ValueError: A group does not fit.
    """
    return [spec for number, group in enumerate(groups) for spec in group.replica_specs(number)]


def with_token_budget(deployment: Deployment, budget: int) -> Deployment:
    """Return a copy of a deployment with another token budget.

    Raises:
        ValueError: The policy has no token budget.
    """
    option = deployment.scheduler.limits.budget_option
    if option is None:
        raise ValueError(f"{type(deployment.scheduler).__name__} has no token budget")
    changed: dict[str, Any] = {option: budget}
    scheduler: Any = deployment.scheduler
    return replace(deployment, scheduler=replace(scheduler, **changed))


def has_token_budget(deployment: Deployment) -> bool:
    """Return whether the policy has a token budget."""
    return deployment.scheduler.limits.budget_option is not None


def token_budget_of(deployment: Deployment) -> int | None:
    """Return the token budget of the policy, or None."""
    option = deployment.scheduler.limits.budget_option
    return None if option is None else int(vars(deployment.scheduler)[option])


def _describe(part: object) -> dict[str, Any] | None:
    if part is None:
        return None
    values = asdict(part) if is_dataclass(part) and not isinstance(part, type) else {}
    return {"class": type(part).__name__, **values}
