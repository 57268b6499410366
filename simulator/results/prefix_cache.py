"""Prefix cache hits and evicted KV blocks of a run."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.results.replica import ReplicaResult

# Columns of requests.csv.
CACHED_TOKENS = ("cached_tokens", "cached_tokens_readmissions")
Ints = NDArray[np.int64]


class Admissions(NamedTuple):
    """Moves of requests from waiting to running, in order of time.

    Attributes:
        request: int64[n].
        time_s: float64[n], when the scheduler decided.
        num_cached_tokens: int64[n], tokens found in the prefix cache.
        has_prefix_cache: bool[n], whether the replica has one.
        is_first: bool[n], whether it is the first admission of its request.
    """

    request: Ints
    time_s: NDArray[np.float64]
    num_cached_tokens: Ints
    has_prefix_cache: NDArray[np.bool_]
    is_first: NDArray[np.bool_]


def collect_admissions(replicas: Sequence[ReplicaResult]) -> Admissions:
    """Return the admissions of all replicas."""
    events = [replica.request_events.admissions for replica in replicas]
    times = [replica.logged.columns["schedule_s"][rows[:, 1]] for replica, rows in zip(replicas, events, strict=True)]
    has_prefix_cache = np.repeat([replica.caches_prefixes for replica in replicas], [len(rows) for rows in events])
    rows, time_s = np.concatenate(events), np.concatenate(times)
    order = np.argsort(time_s, kind="stable")
    request = rows[order, 0]
    is_first = np.zeros(len(order), dtype=bool)
    is_first[np.unique(request, return_index=True)[1]] = True
    return Admissions(request, time_s[order], rows[order, 2], has_prefix_cache[order], is_first)


def cached_tokens(replicas: Sequence[ReplicaResult], num_requests: int) -> dict[str, Ints]:
    """Return the CACHED_TOKENS columns of requests.csv.

    Returns:
        int64[num_requests] each: tokens found at the first admission, and at all later ones.
    """
    admissions = collect_admissions(replicas)
    columns = []
    for chosen in (admissions.is_first, ~admissions.is_first):
        column = np.zeros(num_requests, dtype=np.int64)
        np.add.at(column, admissions.request[chosen], admissions.num_cached_tokens[chosen])
        columns.append(column)
    return dict(zip(CACHED_TOKENS, columns, strict=True))


def prefix_cache_figures(
    replicas: Sequence[ReplicaResult],
    requests: dict[str, NDArray[Any]],
    counted: NDArray[np.bool_],
    has_prefixes: bool,
) -> dict[str, Any] | None:
    """Return the `prefix_cache` of the summary; None: no replica has one.

    Rates are over the first admissions of counted requests at replicas with a prefix cache.

    Args:
        replicas: All replicas of the run.
        requests: Arrays by request, those of CACHED_TOKENS among them.
        counted: bool[num_requests], the requests that the figures are about.
        has_prefixes: Whether the trace says what prompts share; if not, rates are unknown.
    """
    if not any(replica.caches_prefixes for replica in replicas):
        return None
    admissions = collect_admissions(replicas)
    first = admissions.is_first & admissions.has_prefix_cache & counted[admissions.request]
    num_cached = admissions.num_cached_tokens[first]
    prompts = requests["prompt_tokens"][admissions.request[first]]
    is_known = has_prefixes and len(prompts) > 0
    return {
        "hit_rate_tokens": int(num_cached.sum()) / int(prompts.sum()) if is_known else None,
        "hit_rate_requests": int(np.count_nonzero(num_cached)) / len(num_cached) if is_known else None,
        "cached_tokens": int(num_cached.sum()),
        "cached_tokens_readmissions": int(requests["cached_tokens_readmissions"][counted].sum()),
        "num_evicted_blocks": sum(int(replica.request_events.evictions[:, 0].sum()) for replica in replicas),
    }
