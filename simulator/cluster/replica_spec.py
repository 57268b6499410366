"""The specification of one replica."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulator.iteration_time import StageTimes
from simulator.model import FrontEndTime, Placement
from simulator.replica import CachingReplica, Replica, RequestTable
from simulator.schedulers import Overlapping, Scheduler, SizedBatches

_LONGEST = 2**31  # tokens, longer than any sequence


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

    @property
    def overlaps(self) -> bool:
        """Whether a request may be in several batches in flight."""
        return isinstance(self.scheduler, Overlapping)

    @property
    def max_batch_tokens(self) -> int | None:
        """Maximum tokens of a batch, which decodes alone may exceed.

        None if the policy states no maximum.
        """
        policy = self.scheduler
        return policy.profiled_tokens(_LONGEST) if isinstance(policy, SizedBatches) else None

    @property
    def max_num_seqs(self) -> int | None:
        """Maximum running requests; None: the policy states none."""
        return max_num_seqs_of(self.scheduler)

    def build(self, requests: RequestTable, replica_class: Callable[..., Replica] | None = None) -> Replica:
        """Return an empty replica.

        Args:
            requests: Table of all requests of the run.
            replica_class: Called with the arguments of the default class; None: the default class.
        """
        options: dict[str, Any] = {
            "num_blocks": self.num_blocks,
            "block_size": self.block_size,
            "max_model_len": self.max_model_len,
            "num_stages": self.placement.pp,
        }
        if isinstance(self.scheduler, Overlapping):
            overlap = self.scheduler.overlap
            options |= {
                "num_blocks": self.num_blocks - 1,  # the engine never allocates the first block
                "watermark_blocks": int(overlap.watermark * self.num_blocks),
                "lookahead": self.placement.pp if overlap.lookahead else 0,
                "block_hashes": requests.block_hashes[self.block_size] if self.prefix_caching else None,
                "rank": requests.rank if overlap.by_priority else None,
            }
        else:
            options["watermark_blocks"] = int(self.watermark * self.num_blocks)
            options["appends_blocks"] = self.scheduler.appends_blocks
        default = CachingReplica if self.overlaps else Replica
        return (replica_class or default)(requests, **options)


def max_num_seqs_of(policy: Scheduler) -> int | None:
    """Return the maximum running requests of a policy; None: it states none."""
    return policy.overlap.max_running if isinstance(policy, Overlapping) else getattr(policy, "max_num_seqs", None)
