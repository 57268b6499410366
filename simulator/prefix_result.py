"""What the prefix cache was worth: tokens that were found in it, and KV blocks that were evicted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.replica_result import ReplicaResult

# Columns of requests.csv.
CACHED_TOKENS = ("cached_tokens", "cached_tokens_readmissions")
Ints = NDArray[np.int64]


def cached_tokens(replicas: Sequence[ReplicaResult], num_requests: int) -> dict[str, Ints]:
    """Return int64[num_requests] tokens found at the first admission of each request, and at all others; by column."""
    parts = [
        np.column_stack([one.history.admissions, one.logged.columns["schedule_s"][one.history.admissions[:, 1]]])
        for one in replicas
    ]
    admissions = np.concatenate(parts)
    admissions = admissions[np.argsort(admissions[:, 3], kind="stable")]
    request, found = admissions[:, 0].astype(np.int64), admissions[:, 2].astype(np.int64)
    first = np.unique(request, return_index=True)[1]
    at_first, in_all = np.zeros(num_requests, dtype=np.int64), np.zeros(num_requests, dtype=np.int64)
    at_first[request[first]] = found[first]
    np.add.at(in_all, request, found)
    return dict(zip(CACHED_TOKENS, (at_first, in_all - at_first), strict=True))


def prefix_figures(requests: dict[str, NDArray[Any]], counted: NDArray[np.bool_], num_evicted: int) -> dict[str, Any]:
    """Return what summary.json says of the prefix cache, of the first admissions of counted requests.

    Args:
        requests: Arrays by request, those of CACHED_TOKENS among them.
        counted: bool[num_requests], the requests that the figures are about.
        num_evicted: Labelled KV blocks that were reused, all in all.
    """
    admitted = counted & ~np.isnan(requests["first_scheduled_s"])
    found, again = (requests[name][admitted] for name in CACHED_TOKENS)
    num_tokens, num_requests = int(requests["prompt_tokens"][admitted].sum()), len(found)
    return {
        "hit_rate_tokens": int(found.sum()) / num_tokens if num_tokens else None,
        "hit_rate_requests": int(np.count_nonzero(found)) / num_requests if num_requests else None,
        "cached_tokens": int(found.sum()),
        "cached_tokens_readmissions": int(again.sum()),
        "num_evicted_blocks": num_evicted,
    }


def num_evicted_blocks(replicas: Sequence[ReplicaResult]) -> int:
    """KV blocks that lost what they held because they were needed for something else."""
    return sum(int(one.history.evictions[:, 0].sum()) for one in replicas)
