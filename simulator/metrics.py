"""Exact latency figures, computed from arrays after the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PERCENTILES = (50, 90, 95, 99)


def distribution(values: Floats, weights: Ints | None = None) -> dict[str, float | None]:
    """Summarise a sample.

    A quantile is the smallest value whose cumulative weight reaches that share of the whole.

    Args:
        values: float64[n].
        weights: int64[n], how often each value occurs; None: once.

    Returns:
        mean, p50, p90, p95, p99 and max; None each for an empty sample.
    """
    names = ["mean", *(f"p{percentile}" for percentile in PERCENTILES), "max"]
    if weights is None:
        weights = np.ones(len(values), dtype=np.int64)
    present = weights > 0
    values, weights = values[present], weights[present]
    if len(values) == 0:
        return dict.fromkeys(names)
    order = np.argsort(values)
    values, cumulated = values[order], np.cumsum(weights[order])
    total = int(cumulated[-1])
    # Integer ranks: 0.99 * total in floating point may fall on the wrong side of a sample.
    ranks = [-(-percentile * total // 100) for percentile in PERCENTILES]
    quantiles = values[np.searchsorted(cumulated, ranks)]
    mean = float(np.dot(values, weights[order]) / total)
    return dict(zip(names, [mean, *map(float, quantiles), float(values[-1])], strict=True))


@dataclass(frozen=True)
class TokenLog:
    """When the requests of one replica emitted tokens, by iteration.

    Attributes:
        end_s: float64[num_iterations].
        decode_set: int64[num_iterations], the decode set in each iteration; negative: none.
        prefill_ends: int64[k, 2], request and iteration of each completed prefill: one token.
        residencies: int64[m, 4], request, decode set, joined, left: one token in each of the set's
            iterations in (joined, left], the first being number 1.
    """

    end_s: Floats
    decode_set: Ints
    prefill_ends: Ints
    residencies: Ints


def token_gaps(log: TokenLog, counted: Bools) -> tuple[Floats, Ints]:
    """All times between consecutive tokens of a request, restarts included.

    Args:
        log: The tokens of one replica.
        counted: bool[num_requests], the requests whose gaps count.

    Returns:
        float64[n] gaps and int64[n], how many requests waited so long.
    """
    prefill_ends = log.prefill_ends[counted[log.prefill_ends[:, 0]]]
    residencies = log.residencies[counted[log.residencies[:, 0]]]
    requests, firsts, lasts = [prefill_ends[:, 0]], [prefill_ends[:, 1]], [prefill_ends[:, 1]]
    gaps, weights = [], []
    for index in np.unique(residencies[:, 1]):
        iterations = np.flatnonzero(log.decode_set == index)
        request, _, joined, left = residencies[residencies[:, 1] == index].T
        requests.append(request)
        firsts.append(iterations[joined])
        lasts.append(iterations[left - 1])
        # Within a residency: one more request waits from the second of its iterations to the last one.
        change = np.zeros(len(iterations) + 1, dtype=np.int64)
        np.add.at(change, joined + 1, 1)
        np.add.at(change, left, -1)
        weights.append(np.cumsum(change)[1:-1])
        gaps.append(np.diff(log.end_s[iterations]))
    # Between a prefill or residency of a request and its next residency or prefill.
    request, first, last = map(np.concatenate, (requests, firsts, lasts))
    order = np.lexsort((first, request))
    request, first, last = request[order], first[order], last[order]
    same = request[1:] == request[:-1]
    between = log.end_s[first[1:][same]] - log.end_s[last[:-1][same]]
    gaps.append(between)
    weights.append(np.ones(len(between), dtype=np.int64))
    return np.concatenate(gaps), np.concatenate(weights)


def is_overloaded(arrival_s: Floats, first_scheduled_s: Floats) -> bool:
    """Whether the queue was still growing when the last request arrived.

    It was if the requests that were not scheduled by then are 10 or more and 5 % of all, and their number,
    averaged over each third of the time from the first to the last arrival, went up from third to third.

    Args:
        arrival_s: float64[n], sorted.
        first_scheduled_s: float64[n], NaN for a request that was never scheduled.
    """
    if len(arrival_s) == 0 or arrival_s[0] == arrival_s[-1]:
        return False
    start_s, end_s = arrival_s[0], arrival_s[-1]
    scheduled_s = np.where(np.isnan(first_scheduled_s), np.inf, first_scheduled_s)
    if np.count_nonzero(scheduled_s > end_s) < max(10, 0.05 * len(arrival_s)):
        return False
    edges = np.linspace(start_s, end_s, 4)
    waits = [np.sum(np.clip(scheduled_s, low, high) - np.clip(arrival_s, low, high)) for low, high in pairwise(edges)]
    return bool(waits[0] < waits[1] < waits[2])


def latencies(
    requests: Mapping[str, NDArray[Any]],
    logs: Sequence[TokenLog],
    counted: Bools,
    *,
    end_s: float,
    zero_first_gap: bool = False,
) -> dict[str, dict[str, float | None]]:
    """Latency figures of the counted requests.

    Args:
        requests: Arrays by request: arrival_s, first_scheduled_s, first_token_s and completed_s (float64,
            NaN: has not happened), output_tokens, ignored.
        logs: Tokens, by replica.
        counted: bool[num_requests].
        end_s: When the simulation ended.
        zero_first_gap: Count a gap of 0 s for each first token.

    Returns:
        ttft_s, tbt_s, tpot_s, e2e_s and scheduling_delay_s (see `distribution`). TPOT leaves out requests
        of one token. The scheduling delay of a request that was never scheduled is end_s - arrival.
    """
    table = {name: values[counted] for name, values in requests.items()}
    arrival_s, first_token_s, completed_s = table["arrival_s"], table["first_token_s"], table["completed_s"]
    gaps, weights = map(np.concatenate, zip(*(token_gaps(log, counted) for log in logs), strict=True))
    started = ~np.isnan(first_token_s)
    if zero_first_gap:
        gaps = np.append(gaps, 0.0)
        weights = np.append(weights, np.count_nonzero(started))
    several = ~np.isnan(completed_s) & (table["output_tokens"] > 1)
    decode_s = completed_s[several] - first_token_s[several]
    scheduled_s = np.where(np.isnan(table["first_scheduled_s"]), end_s, table["first_scheduled_s"])
    delays = (scheduled_s - arrival_s)[(table["ignored"] == 0) | ~np.isnan(table["first_scheduled_s"])]
    return {
        "ttft_s": distribution((first_token_s - arrival_s)[started]),
        "tbt_s": distribution(gaps, weights),
        "tpot_s": distribution(decode_s / (table["output_tokens"][several] - 1)),
        "e2e_s": distribution((completed_s - arrival_s)[~np.isnan(completed_s)]),
        "scheduling_delay_s": distribution(delays),
    }
