"""The specification of one replica."""

from collections.abc import Callable
from dataclasses import dataclass, field

from simulator.iteration_time import StageTimes
from simulator.kv_cache import BlockHashCache, KVPool, LayerGroup
from simulator.model import FrontEndTime, Placement
from simulator.replica import Replica, RequestTable
from simulator.schedulers import Scheduler


@dataclass(frozen=True)
class ReplicaSpec:
    """Everything needed to build one replica.

    Attributes:
        scheduler: Scheduling policy.
        stage_times: Seconds of a batch in each pipeline stage.
        num_blocks: KV blocks of the replica.
        block_size: Tokens per KV block.
        watermark: Share of the KV blocks that an admission should leave free, if the policy has a watermark.
        max_model_len: Maximum tokens of a sequence.
        overlap_sends: Whether a stage computes while it sends.
        placement: GPUs of the replica.
        slow_network_times: Returns the stage times for a factor on the time of messages between the GPUs; None: the
            replica sends no messages, or their times are unknown.
        prefix_caching: Whether the replica has a prefix cache.
        front_end: Times of its front end.
    """

    scheduler: Scheduler
    stage_times: StageTimes
    num_blocks: int
    block_size: int
    watermark: float
    max_model_len: int
    overlap_sends: bool = False
    placement: Placement = field(default_factory=Placement)
    slow_network_times: Callable[[float], StageTimes] | None = None
    prefix_caching: bool = False
    front_end: FrontEndTime = field(default_factory=FrontEndTime)

    def build(self, requests: RequestTable, replica_class: Callable[..., Replica] = Replica) -> Replica:
        """Return an empty replica.

        Args:
            requests: Table of all requests of the run.
            replica_class: Called with the arguments of `Replica`.
        """
        limits = self.scheduler.limits
        watermark = self.watermark if limits.watermark is None else limits.watermark
        prefix = BlockHashCache(requests.block_hashes[self.block_size]) if self.prefix_caching else None
        return replica_class(
            requests,
            KVPool(self.num_blocks - limits.null_blocks, [LayerGroup(self.block_size)], prefix),
            limits,
            max_model_len=self.max_model_len,
            watermark_blocks=int(watermark * self.num_blocks),
            num_stages=self.placement.pp,
        )
