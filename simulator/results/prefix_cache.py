"""What the prefix cache was worth: tokens that were found in it, and KV blocks that were evicted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.results.replica import ReplicaResult

# Columns of requests.csv.
CACHED_TOKENS = ("cached_tokens", "cached_tokens_readmissions")
Ints = NDArray[np.int64]


class Admissions(NamedTuple):
    """Moves from waiting to running, in order of time.

    Attributes:
        request: int64[n].
        time_s: float64[n], when it was decided.
        num_found: int64[n], tokens that were found in the prefix cache.
        caches: bool[n], whether the replica has one.
        is_first: bool[n], whether it is the first one of its request.
    """

    request: Ints
    time_s: NDArray[np.float64]
    num_found: Ints
    caches: NDArray[np.bool_]
    is_first: NDArray[np.bool_]


def admissions(replicas: Sequence[ReplicaResult]) -> Admissions:
    """Return the admissions of all replicas."""
    events = [one.request_events.admissions for one in replicas]
    times = [one.logged.columns["schedule_s"][rows[:, 1]] for one, rows in zip(replicas, events, strict=True)]
    caches = np.repeat([one.caches_prefixes for one in replicas], [len(rows) for rows in events])
    rows, time_s = np.concatenate(events), np.concatenate(times)
    order = np.argsort(time_s, kind="stable")
    request = rows[order, 0]
    is_first = np.zeros(len(order), dtype=bool)
    is_first[np.unique(request, return_index=True)[1]] = True
    return Admissions(request, time_s[order], rows[order, 2], caches[order], is_first)


def cached_tokens(replicas: Sequence[ReplicaResult], num_requests: int) -> dict[str, Ints]:
    """Return int64[num_requests] tokens found at the first admission of each request, and at all others; by column."""
    found = admissions(replicas)
    columns = []
    for chosen in (found.is_first, ~found.is_first):
        column = np.zeros(num_requests, dtype=np.int64)
        np.add.at(column, found.request[chosen], found.num_found[chosen])
        columns.append(column)
    return dict(zip(CACHED_TOKENS, columns, strict=True))


def prefix_figures(
    replicas: Sequence[ReplicaResult], requests: dict[str, NDArray[Any]], counted: NDArray[np.bool_]
) -> dict[str, Any] | None:
    """Return what summary.json says of prefix caches; None: no replica has one.

    Rates are about the first admissions of counted requests, at replicas with a prefix cache.

    Args:
        replicas: What they did.
        requests: Arrays by request, those of CACHED_TOKENS among them.
        counted: bool[num_requests], the requests that the figures are about.
    """
    if not any(one.caches_prefixes for one in replicas):
        return None
    found = admissions(replicas)
    first = found.is_first & found.caches & counted[found.request]
    num_found, prompts = found.num_found[first], requests["prompt_tokens"][found.request[first]]
    return {
        "hit_rate_tokens": int(num_found.sum()) / int(prompts.sum()) if len(prompts) else None,
        "hit_rate_requests": int(np.count_nonzero(num_found)) / len(num_found) if len(prompts) else None,
        "cached_tokens": int(num_found.sum()),
        "cached_tokens_readmissions": int(requests["cached_tokens_readmissions"][counted].sum()),
        "num_evicted_blocks": sum(int(one.request_events.evictions[:, 0].sum()) for one in replicas),
    }
