"""One run: a trace served by a deployment."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulator.cluster import Cluster, ReplicaSpec
from simulator.hardware import Device
from simulator.host import ServingEngine
from simulator.iteration_time.base import IterationTime, StageTimes
from simulator.iteration_time.profile import Profile
from simulator.kv_cache import KVCache
from simulator.model import Model
from simulator.parallelism import Parallelism
from simulator.request_table import RequestTable
from simulator.result import MetricOptions, Result
from simulator.routers.base import Router
from simulator.routers.round_robin import RoundRobin
from simulator.schedulers.base import Scheduler
from simulator.schedulers.sarathi import Sarathi
from traces import Trace

MOST_REPLICAS = 10_000


@dataclass(frozen=True)
class Deployment:
    """Identical replicas of a model.

    Attributes:
        model: The model.
        device: The GPU.
        scheduler: The policy of each replica.
        parallel: Layout of each replica.
        iteration_time: How long the kernels of an iteration take.
        kv_cache: KV memory of each replica.
        num_replicas: Replicas behind the router.
        engine: How long the host takes in an iteration; by default no time.
    """

    model: Model
    device: Device
    scheduler: Scheduler = field(default_factory=Sarathi)
    parallel: Parallelism = field(default_factory=Parallelism)
    iteration_time: IterationTime = field(default_factory=Profile)
    kv_cache: KVCache = field(default_factory=KVCache)
    num_replicas: int = 1
    engine: ServingEngine = field(default_factory=ServingEngine)

    def __post_init__(self) -> None:
        """Check the range."""
        count = self.num_replicas
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_REPLICAS:
            raise ValueError(f"replicas must be an integer from 1 to {MOST_REPLICAS}, got {count!r}")

    def stage_times(self) -> StageTimes:
        """Return the iteration time of a replica.

        Raises:
            ValueError: The model cannot be spread like this, or the engine was not measured on these hosts.
        """
        host = self.engine.host_time(self.device)
        return self.iteration_time.for_layout(self.model, self.device, self.parallel, host)

    def replica_specs(self) -> list[ReplicaSpec]:
        """Return what makes each replica.

        Raises:
            ValueError: The model does not fit the layout or its memory.
        """
        spec = ReplicaSpec(
            scheduler=self.scheduler,
            stage_times=self.stage_times(),
            num_stages=self.parallel.pp,
            num_blocks=self.kv_cache.blocks_for(self.model, self.device, self.parallel),
            block_size=self.kv_cache.block_size,
            watermark=self.kv_cache.watermark,
            max_model_len=self.model.max_model_len,
        )
        return [spec] * self.num_replicas


def simulate(
    trace: Trace,
    deployment: Deployment | Sequence[ReplicaSpec],
    *,
    router: Router | None = None,
    time_limit_s: float | None = None,
    metrics: MetricOptions | None = None,
    log_members: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Serve a trace and return what happened.

    Args:
        trace: Requests with arrival times.
        deployment: What serves them; or the replicas one by one.
        router: Chooses the replica of each request; None: round robin.
        time_limit_s: No iteration starts and no request arrives after so many seconds; None: no limit.
        metrics: What the figures leave out and count; None: the defaults.
        log_members: Keep the members of each batch (`Result.batches`); costs time for each of them.
        progress: Called with the number of finished requests now and then.

    Raises:
        ValueError: The trace has no arrival times, or the deployment does not fit its machines.
    """
    if trace.arrival_s is None:
        raise ValueError("the trace has no arrival times; give it some with one of traces.arrival")
    requests = RequestTable(
        arrival_s=trace.arrival_s.tolist(),
        prefill_tokens=trace.prompt_tokens.tolist(),
        total_tokens=(trace.prompt_tokens + trace.output_tokens).tolist(),
    )
    cluster = Cluster(
        requests,
        deployment.replica_specs() if isinstance(deployment, Deployment) else deployment,
        router or RoundRobin(),
        time_limit_s=math.inf if time_limit_s is None else time_limit_s,
        log_members=log_members,
        progress=progress,
    )
    cluster.run()
    return Result.from_cluster(trace, cluster, metrics or MetricOptions())
