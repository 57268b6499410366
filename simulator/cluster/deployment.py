"""What serves: identical replicas of a model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

from simulator.cluster.faults import MOST_REPLICAS
from simulator.cluster.replica_spec import ReplicaSpec
from simulator.iteration_time import IterationTime, Profile, StageTimes
from simulator.model import Device, HostOverhead, KVMemory, Layout, Model, Node, Parallelism, Placement
from simulator.schedulers import Overlapping, Sarathi, Scheduler, SizedBatches


@dataclass(frozen=True)
class Deployment:
    """Identical replicas of a model: a whole cluster, or a group of one.

    Attributes:
        model: The model.
        device: The GPU.
        scheduler: The policy of each replica.
        parallel: Layout of each replica.
        iteration_time: How long the kernels of an iteration take.
        kv_cache: KV memory of each replica.
        num_replicas: Replicas behind the router.
        engine: How long the host takes in an iteration; by default no time.
        node: The machine; None: unknown, which is enough for replicas of one GPU.
        num_nodes: Machines that there are; None: as many as it takes.
    """

    model: Model
    device: Device
    scheduler: Scheduler = field(default_factory=Sarathi)
    parallel: Parallelism = field(default_factory=Parallelism)
    iteration_time: IterationTime = field(default_factory=Profile)
    kv_cache: KVMemory = field(default_factory=KVMemory)
    num_replicas: int = 1
    engine: HostOverhead = field(default_factory=HostOverhead)
    node: Node | None = None
    num_nodes: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        count, machines = self.num_replicas, self.num_nodes
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_REPLICAS:
            raise ValueError(f"replicas must be an integer from 1 to {MOST_REPLICAS}, got {count!r}")
        if machines is not None and (not isinstance(machines, int) or isinstance(machines, bool) or machines < 1):
            raise ValueError(f"num_nodes must be an integer of at least 1 or null, got {machines!r}")

    @property
    def caches_prefixes(self) -> bool:
        """Whether its replicas find KV blocks again by what they hold."""
        return isinstance(self.scheduler, Overlapping) and self.kv_cache.prefix_caching is not False

    @property
    def layout(self) -> Layout:
        """Layout of each replica.

        Raises:
            ValueError: The model cannot be spread like this.
        """
        return Layout(self.model, self.device, self.parallel, self.node, self.kv_cache.dtype)

    def stage_times(self) -> StageTimes:
        """Return the iteration time of a replica.

        Raises:
            ValueError: The model cannot be spread like this, or the engine was not measured on these hosts.
        """
        return self._stage_times

    @cached_property
    def _stage_times(self) -> StageTimes:
        """Their tables take longer to build than a short run, and serve every run."""
        return self.iteration_time.for_layout(self.layout, self.engine.on(self.device))

    def _slower_network(self, slowdown: float) -> StageTimes:
        """Return the iteration time of a replica while its messages take so many times as long."""
        if slowdown not in self._on_slower_networks:
            layout = replace(self.layout, network_slowdown=slowdown)
            self._on_slower_networks[slowdown] = self.iteration_time.for_layout(layout, self.engine.on(self.device))
        return self._on_slower_networks[slowdown]

    @cached_property
    def _on_slower_networks(self) -> dict[float, StageTimes]:
        return {}

    def replica_specs(self, group: int = 0) -> list[ReplicaSpec]:
        """Return what makes each replica.

        Args:
            group: Number of the group that they are in the cluster.

        Raises:
            ValueError: The model does not fit the layout, its memory or the machines that there are.
        """
        self._require_machines()
        if self.kv_cache.prefix_caching and not self.caches_prefixes:
            name = type(self.scheduler).__name__
            raise ValueError(f"kv_cache.prefix_caching=true needs scheduler=vllm_v1, and {name} has no prefix cache")
        price = self.device.price_per_hour_usd
        longest = self.model.max_model_len
        policy = self.scheduler
        profiled_tokens = policy.profiled_tokens(longest) if isinstance(policy, SizedBatches) else longest
        spec = ReplicaSpec(
            scheduler=self.scheduler,
            stage_times=self.stage_times(),
            num_blocks=self.kv_cache.blocks_for(self.layout, profiled_tokens),
            block_size=self.kv_cache.block_size,
            watermark=self.kv_cache.watermark,
            max_model_len=self.model.max_model_len,
            overlap_sends=self.parallel.overlap_sends,
            prefix_caching=self.caches_prefixes,
            slower_network=self._slower_network if self.parallel.num_gpus > 1 else None,
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

    def described(self) -> dict[str, Any]:
        """Return what each replica is made of, as plain values; of what is no dataclass, the class."""
        parts = ("model", "device", "node", "parallel", "scheduler", "kv_cache")
        found = {name: _described(getattr(self, name)) for name in parts}
        return {"replicas": self.num_replicas, **found}

    def _require_machines(self) -> None:
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
    """Return the groups of a cluster, of which there may be one."""
    return [deployment] if isinstance(deployment, Deployment) else deployment


def with_token_budget(deployment: Deployment, budget: int) -> Deployment:
    """Return the deployment with another token budget of its policy.

    Raises:
        ValueError: The policy has none.
    """
    option = budget_option(deployment.scheduler)
    if option is None:
        raise ValueError(f"{type(deployment.scheduler).__name__} has no token budget")
    changed: dict[str, Any] = {option: budget}
    scheduler: Any = deployment.scheduler
    return replace(deployment, scheduler=replace(scheduler, **changed))


def has_token_budget(deployment: Deployment) -> bool:
    """Whether its policy has a token budget."""
    return budget_option(deployment.scheduler) is not None


def budget_option(scheduler: Scheduler) -> str | None:
    """Name of the option that limits the tokens of an iteration, decodes included; None: the policy has none."""
    named: str | None = getattr(type(scheduler), "budget_option", None)
    if named is None and is_dataclass(scheduler) and "token_budget" in [one.name for one in fields(scheduler)]:
        return "token_budget"
    return named


def _described(part: object) -> dict[str, Any] | None:
    if part is None:
        return None
    values = asdict(part) if is_dataclass(part) and not isinstance(part, type) else {}
    return {"class": type(part).__name__, **values}
