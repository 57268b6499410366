"""All that makes one replica."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulator.iteration_time import StageTimes
from simulator.model import Placement
from simulator.replica import CachingReplica, Replica, RequestTable
from simulator.schedulers import Overlapping, Scheduler, SizedBatches

_LONGEST = 2**31  # tokens, longer than any sequence


@dataclass(frozen=True)
class ReplicaSpec:
    """All that makes one replica.

    Attributes:
        scheduler: The policy.
        stage_times: Seconds of a batch in each pipeline stage.
        num_blocks: KV blocks.
        block_size: Tokens per KV block.
        watermark: Share of the blocks that an admission should leave free, if the policy has a watermark.
        max_model_len: Longest sequence that is admitted, tokens.
        overlap_sends: Whether a stage goes on while it sends.
        placement: Its GPUs.
        prefix_caching: Whether KV blocks are found again by what they hold.
        slower_network: Returns the stage times when messages between its GPUs take so many times as long; None:
            it has no messages, or nobody knows how long they take.
    """

    scheduler: Scheduler
    stage_times: StageTimes
    num_blocks: int
    block_size: int
    watermark: float
    max_model_len: int
    overlap_sends: bool = False
    placement: Placement = field(default_factory=Placement)
    slower_network: Callable[[float], StageTimes] | None = None
    prefix_caching: bool = False

    @property
    def overlaps(self) -> bool:
        """Whether requests may have work in several batches in flight."""
        return isinstance(self.scheduler, Overlapping)

    @property
    def max_batch_tokens(self) -> int | None:
        """Tokens of a batch at most, unless it has as many decodes; None: the policy does not say."""
        policy = self.scheduler
        return policy.profiled_tokens(_LONGEST) if isinstance(policy, SizedBatches) else None

    @property
    def max_num_seqs(self) -> int | None:
        """Running requests at most; None: the policy does not say."""
        policy = self.scheduler
        return policy.overlap.max_running if isinstance(policy, Overlapping) else getattr(policy, "max_num_seqs", None)

    def build(self, requests: RequestTable, new_replica: Callable[..., Replica] | None = None) -> Replica:
        """Return an empty replica.

        Args:
            requests: Table of all requests of the run.
            new_replica: What is called for it, with the arguments of its class; None: that class.
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
                "num_blocks": self.num_blocks - 1,  # the engine never gives the first one away
                "watermark_blocks": int(overlap.watermark * self.num_blocks),
                "lookahead": self.placement.pp if overlap.lookahead else 0,
                "block_hashes": requests.block_hashes[self.block_size] if self.prefix_caching else None,
                "rank": requests.rank if overlap.by_priority else None,
            }
        else:
            options["watermark_blocks"] = int(self.watermark * self.num_blocks)
            options["appends_blocks"] = self.scheduler.appends_blocks
        default = CachingReplica if self.overlaps else Replica
        return (new_replica or default)(requests, **options)
