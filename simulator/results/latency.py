"""Exact latency figures, computed from arrays after the run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# What is told of requests, seconds, and what it is called.
LATENCIES = {
    "ttft_s": "time to first token",
    "tbt_s": "time between tokens",
    "tpot_s": "time per output token",
    "e2e_s": "end to end",
    "scheduling_delay_s": "scheduling delay",
}
PERCENTILES = (50, 90, 95, 99)
SUMMARY = ("mean", *(f"p{percentile}" for percentile in PERCENTILES), "max")


def rank(percentile: Fraction, total: int) -> int:
    """Return how many samples of a total a percentile has to reach; exact, as 0.99 * total is not."""
    return math.ceil(percentile * total / 100)


class Distribution:
    """A sample of times.

    A quantile is the smallest value whose cumulative weight reaches that share of the whole.
    """

    def __init__(self, values: Floats, weights: Ints | None = None) -> None:
        """Sort the sample.

        Args:
            values: float64[n].
            weights: int64[n], how often each value occurs; None: once.
        """
        if weights is None:
            weights = np.ones(len(values), dtype=np.int64)
        order = np.argsort(values)
        order = order[weights[order] > 0]
        self._values, self._weights = values[order], weights[order]
        self._cumulated = np.cumsum(self._weights)

    def statistic(self, name: str) -> float | None:
        """Return "mean", "max" or a percentile such as "p50" or "p99.9"; None for an empty sample.

        Raises:
            ValueError: It is none of these.
        """
        percentile = None if name in ("mean", "max") else percentile_of(name)
        if len(self._values) == 0:
            return None
        total = int(self._cumulated[-1])
        if name == "mean":
            # Not by BLAS, whose rounding depends on its number of threads.
            return float((self._values * self._weights).sum() / total)
        place = -1 if percentile is None else np.searchsorted(self._cumulated, rank(percentile, total))
        return float(self._values[place])

    def cdf(self) -> tuple[Floats, Floats]:
        """Return float64[n] the values, sorted, and float64[n] the share of the sample up to each of them."""
        total = self._cumulated[-1] if len(self._cumulated) else 1
        return self._values, self._cumulated / total

    def summary(self) -> dict[str, float | None]:
        """Return mean, p50, p90, p95, p99 and max; None each for an empty sample."""
        return {name: self.statistic(name) for name in SUMMARY}


def percentile_of(name: str) -> Fraction:
    """Return the percentile that "p99" or "p99.9" names.

    Raises:
        ValueError: It names none above 0 and at most 100.
    """
    digits = name.removeprefix("p")
    if name.startswith("p") and digits.replace(".", "", 1).isdecimal() and 0 < Fraction(digits) <= 100:
        return Fraction(digits)
    raise ValueError(f"{name!r} is not mean, max or a percentile such as p50, p99 or p99.9")


@dataclass(frozen=True)
class TokenLog:
    """When the requests of one replica emitted tokens, by iteration.

    Attributes:
        end_s: float64[num_iterations].
        decode_set: int64[num_iterations], the decode set in each iteration; negative: none.
        prefill_ends: int64[k, 2], request and iteration of each completed prefill: one token.
        decode_spans: int64[m, 4], request, decode set, joined, left: one token in each of the set's
            iterations in (joined, left], the first being number 1.
        moved: int64[l], requests of which other replicas may have emitted tokens too. What of their gaps is
            between spans of tokens is in `gaps_of_moved`, not in what is told of one replica.
    """

    end_s: Floats
    decode_set: Ints
    prefill_ends: Ints
    decode_spans: Ints
    moved: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class GapSpans:
    """Gaps between consecutive tokens of a request, as the iterations at whose ends these were emitted.

    Attributes:
        first: int64[n], iteration of the token before the gap.
        last: int64[n], iteration of the token after it.
        weight: int64[n], how many requests waited from the one to the other.
    """

    first: Ints
    last: Ints
    weight: Ints


def gap_spans(log: TokenLog, counted: Bools) -> GapSpans:
    """All gaps between consecutive tokens of a request, restarts included.

    Args:
        log: The tokens of one replica.
        counted: bool[num_requests], the requests whose gaps count.
    """
    prefill_ends = log.prefill_ends[counted[log.prefill_ends[:, 0]]]
    decode_spans = list(_by_decode_set(log, log.decode_spans[counted[log.decode_spans[:, 0]]]))
    first, last, weights = [], [], []
    for iterations, _, joined, left in decode_spans:
        # Within a decode_span: one more request waits from the second of its iterations to the last one.
        change = np.zeros(len(iterations) + 1, dtype=np.int64)
        np.add.at(change, joined + 1, 1)
        np.add.at(change, left, -1)
        weights.append(np.cumsum(change)[1:-1])
        first.append(iterations[:-1])
        last.append(iterations[1:])
    _, before, after = _between_spans(prefill_ends, decode_spans, log.moved)
    weights.append(np.ones(len(before), dtype=np.int64))
    return GapSpans(np.concatenate([*first, before]), np.concatenate([*last, after]), np.concatenate(weights))


def token_gaps(log: TokenLog, counted: Bools) -> tuple[Floats, Ints]:
    """All times between consecutive tokens of a request, restarts included.

    Args:
        log: The tokens of one replica.
        counted: bool[num_requests], the requests whose gaps count.

    Returns:
        float64[n] gaps and int64[n], how many requests waited so long.
    """
    spans = gap_spans(log, counted)
    return log.end_s[spans.last] - log.end_s[spans.first], spans.weight


def decodes_emitted(log: TokenLog) -> Ints:
    """Decodes that got a token at the end of each iteration: int64[num_iterations]."""
    emitted = np.zeros(len(log.end_s), dtype=np.int64)
    for iterations, _, joined, left in _by_decode_set(log, log.decode_spans):
        change = np.zeros(len(iterations) + 1, dtype=np.int64)
        np.add.at(change, joined, 1)
        np.add.at(change, left, -1)
        emitted[iterations] += np.cumsum(change)[:-1]
    return emitted


def gaps_above(log: TokenLog, bound_s: float, num_requests: int) -> tuple[Ints, Ints]:
    """Count the gaps of each request that are longer than a bound.

    Args:
        log: The tokens of one replica.
        bound_s: The bound.
        num_requests: Requests that there are.

    Returns:
        int64[num_requests] gaps that are longer, and int64[num_requests] all gaps.
    """
    above, every = np.zeros(num_requests, dtype=np.int64), np.zeros(num_requests, dtype=np.int64)
    decode_spans = list(_by_decode_set(log, log.decode_spans))
    for iterations, request, joined, left in decode_spans:
        longer = np.concatenate([[0], np.cumsum(np.diff(log.end_s[iterations]) > bound_s)])
        np.add.at(above, request, longer[left - 1] - longer[joined])
        np.add.at(every, request, left - 1 - joined)
    request, before, after = _between_spans(log.prefill_ends, decode_spans, log.moved)
    np.add.at(above, request, (log.end_s[after] - log.end_s[before] > bound_s).astype(np.int64))
    np.add.at(every, request, 1)
    return above, every


# DecodeSpans of one decode set: its iterations, and by decode_span the request, joined and left, as in `TokenLog`.
DecodeSpans = tuple[Ints, Ints, Ints, Ints]


def _by_decode_set(log: TokenLog, decode_spans: Ints) -> Iterator[DecodeSpans]:
    for index in np.unique(decode_spans[:, 1]):
        request, _, joined, left = decode_spans[decode_spans[:, 1] == index].T
        yield np.flatnonzero(log.decode_set == index), request, joined, left


def gaps_of_moved(logs: Sequence[TokenLog]) -> tuple[Ints, Floats]:
    """Gaps between spans of tokens of requests that several replicas may have served.

    Args:
        logs: Tokens, by replica.

    Returns:
        int64[n] requests and float64[n] seconds.
    """
    parts = []
    for log in logs:
        request, first, last = _spans(log.prefill_ends, list(_by_decode_set(log, log.decode_spans)))
        moved = np.isin(request, log.moved)
        parts.append((request[moved], log.end_s[first[moved]], log.end_s[last[moved]]))
    request, first_s, last_s = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((first_s, request))
    request, first_s, last_s = request[order], first_s[order], last_s[order]
    same = request[1:] == request[:-1]
    return request[1:][same], (first_s[1:] - last_s[:-1])[same]


def _spans(prefill_ends: Ints, decode_spans: Sequence[DecodeSpans]) -> tuple[Ints, Ints, Ints]:
    """Prefills and decode_spans: int64[n] requests, and the iterations of their first and last tokens there."""
    request = np.concatenate([prefill_ends[:, 0], *(one[1] for one in decode_spans)])
    first = np.concatenate([prefill_ends[:, 1], *(iterations[joined] for iterations, _, joined, _ in decode_spans)])
    last = np.concatenate([prefill_ends[:, 1], *(iterations[left - 1] for iterations, _, _, left in decode_spans)])
    return request, first, last


def _between_spans(prefill_ends: Ints, decode_spans: Sequence[DecodeSpans], moved: Ints) -> tuple[Ints, Ints, Ints]:
    """Gaps between a prefill or decode_span of a request and its next decode_span or prefill.

    Args:
        prefill_ends: As in `TokenLog`.
        decode_spans: By decode set.
        moved: Requests to leave out.

    Returns:
        int64[n] requests, and the iterations of the tokens before and after the gap.
    """
    request, first, last = _spans(prefill_ends, decode_spans)
    if len(moved):
        stayed = ~np.isin(request, moved)
        request, first, last = request[stayed], first[stayed], last[stayed]
    order = np.lexsort((first, request))
    request, first, last = request[order], first[order], last[order]
    same = request[1:] == request[:-1]
    return request[1:][same], last[:-1][same], first[1:][same]


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


def distributions(
    requests: Mapping[str, NDArray[Any]],
    logs: Sequence[TokenLog],
    counted: Bools,
    *,
    end_s: float,
    zero_first_gap: bool = False,
) -> dict[str, Distribution]:
    """Latencies of the counted requests.

    Args:
        requests: Arrays by request: arrival_s, first_scheduled_s, first_token_s and completed_s (float64,
            NaN: has not happened), output_tokens, ignored.
        logs: Tokens, by replica.
        counted: bool[num_requests].
        end_s: When the simulation ended.
        zero_first_gap: Count a gap of 0 s for each first token.

    Returns:
        ttft_s, tbt_s, tpot_s, e2e_s and scheduling_delay_s. TPOT leaves out requests of one token. The
        scheduling delay of a request that was never scheduled is end_s - arrival.
    """
    table = {name: values[counted] for name, values in requests.items()}
    arrival_s, first_token_s, completed_s = table["arrival_s"], table["first_token_s"], table["completed_s"]
    moved, moved_gaps = gaps_of_moved(logs)
    moved_gaps = moved_gaps[counted[moved]]
    parts = [(moved_gaps, np.ones(len(moved_gaps), dtype=np.int64)), *(token_gaps(log, counted) for log in logs)]
    gaps, weights = map(np.concatenate, zip(*parts, strict=True))
    started = ~np.isnan(first_token_s)
    if zero_first_gap:
        gaps = np.append(gaps, 0.0)
        weights = np.append(weights, np.count_nonzero(started))
    several = ~np.isnan(completed_s) & (table["output_tokens"] > 1)
    decode_s = completed_s[several] - first_token_s[several]
    scheduled_s = np.where(np.isnan(table["first_scheduled_s"]), end_s, table["first_scheduled_s"])
    delays = (scheduled_s - arrival_s)[(table["ignored"] == 0) | ~np.isnan(table["first_scheduled_s"])]
    return {
        "ttft_s": Distribution((first_token_s - arrival_s)[started]),
        "tbt_s": Distribution(gaps, weights),
        "tpot_s": Distribution(decode_s / (table["output_tokens"][several] - 1)),
        "e2e_s": Distribution((completed_s - arrival_s)[~np.isnan(completed_s)]),
        "scheduling_delay_s": Distribution(delays),
    }
