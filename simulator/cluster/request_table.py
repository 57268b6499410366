"""The request table of a run."""

from collections.abc import Sequence

import numpy as np

from simulator.cluster.deployment import Deployment
from simulator.kv_cache import BlockHashes
from simulator.replica import RequestTable
from traces import Trace


def request_table(trace: Trace, groups: Sequence[Deployment]) -> RequestTable:
    """Return the request table of a trace for the replicas of `groups`."""
    assert trace.arrival_s is not None
    requests = RequestTable(
        arrival_s=trace.arrival_s.tolist(),
        known_tokens=trace.prompt_tokens.tolist(),
        total_tokens=(trace.prompt_tokens + trace.output_tokens).tolist(),
        prompt_tokens=trace.prompt_tokens.tolist(),
    )
    if trace.priority is not None:
        requests.priority = trace.priority.tolist()
    if any(group.scheduler.limits.queue_order == "priority" for group in groups):
        ids = np.arange(len(trace)) if trace.request_id is None else trace.request_id
        requests.id_rank = np.argsort(np.argsort(ids.astype(str), kind="stable")).tolist()
    block_sizes = {group.kv_cache.block_size for group in groups if group.caches_prefixes}
    requests.block_hashes = {size: BlockHashes.of(trace, size) for size in sorted(block_sizes)}
    return requests
