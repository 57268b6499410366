"""When requests emit tokens, and the gaps between consecutive tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class TokenLog:
    """Tokens emitted by one replica, by iteration.

    Attributes:
        end_s: float64[num_iterations], when the tokens of each iteration reached the clients.
        decode_set: int32[num_iterations], the decode set in each iteration; negative: none.
        prefill_ends: int64[k, 2], request and iteration of each completed prefill: one token.
        decode_spans: int64[m, 4], request, decode set, joined, left: one token in each of the set's
            iterations in (joined, left], the first being number 1.
    """

    end_s: Floats
    decode_set: NDArray[np.int32]
    prefill_ends: Ints
    decode_spans: Ints


@dataclass(frozen=True)
class GapSpans:
    """Gaps between consecutive tokens of a request, as pairs of iterations.

    Attributes:
        first: int64[n], iteration that emitted the token before the gap.
        last: int64[n], iteration that emitted the token after it.
        weight: int64[n], number of requests with this gap.
    """

    first: Ints
    last: Ints
    weight: Ints


def gap_spans(log: TokenLog, counted: Bools, left: Ints) -> GapSpans:
    """Return the gaps between consecutive tokens of each request at a replica.

    Preemptions count.

    Args:
        log: Tokens of one replica.
        counted: bool[num_requests], the requests whose gaps count.
        left: int64[k, 2], requests that left the replica, and its iterations until then. A gap from one stay to the
            next is no gap of the replica.
    """
    log = _only(log, counted)
    request, first, last = token_spans(log)
    # Doubled, so that leaving comes between two iterations.
    before, after = _consecutive(np.append(request, left[:, 0]), np.append(2 * first, 2 * left[:, 1] - 1))
    in_stay = np.maximum(before, after) < len(request)
    before, after = before[in_stay], after[in_stay]
    parts = [*_gaps_within_spans(log), (last[before], first[after], np.ones(len(before), dtype=np.int64))]
    return GapSpans(*map(np.concatenate, zip(*parts, strict=True)))


def token_gaps(logs: Sequence[TokenLog], counted: Bools, have_moves: bool = True) -> tuple[Floats, NDArray[np.int32]]:
    """Return the times between consecutive tokens of each request, across replicas.

    Args:
        logs: Tokens, by replica.
        counted: bool[num_requests], the requests whose gaps count.
        have_moves: Whether a request may have been at several replicas, and a gap lie between two of them.

    Returns:
        float64[n] gaps in seconds and int32[n] number of requests with each gap.
    """
    together = [logs] if have_moves else [[log] for log in logs]
    parts = [part for group in together for part in _gaps_of([_only(log, counted) for log in group])]
    gaps, weights = map(np.concatenate, zip(*parts, strict=True))
    return gaps, weights


def _gaps_of(logs: Sequence[TokenLog]) -> Iterator[tuple[Floats, NDArray[np.int32]]]:
    """Yield the gaps of requests at some replicas, as in `token_gaps`."""
    spans = [token_spans(log) for log in logs]
    times = [(log.end_s[first], log.end_s[last]) for log, (_, first, last) in zip(logs, spans, strict=True)]
    request, first, _ = map(np.concatenate, zip(*spans, strict=True))
    first_s, last_s = map(np.concatenate, zip(*times, strict=True))
    before, after = _consecutive(request, first, first_s)
    replica = np.repeat(np.arange(len(logs)), [len(requests) for requests, *_ in spans])[after]
    between_s = first_s[after] - last_s[before]
    for number, log in enumerate(logs):
        for earlier, later, weight in _gaps_within_spans(log):
            yield log.end_s[later] - log.end_s[earlier], weight.astype(np.int32)
        own = between_s[replica == number]
        yield own, np.ones(len(own), dtype=np.int32)


def decodes_emitted(log: TokenLog) -> Ints:
    """Return the decode tokens emitted at the end of each iteration: int64[num_iterations]."""
    emitted = np.zeros(len(log.end_s), dtype=np.int64)
    for own, iterations in _by_decode_set(log):
        _, _, joined, left = log.decode_spans[own].T
        emitted[iterations] += _members(len(iterations), joined, left)
    return emitted


def num_tokens(log: TokenLog, counted: Bools) -> int:
    """Return the output tokens of the counted requests."""
    log = _only(log, counted)
    return len(log.prefill_ends) + int((log.decode_spans[:, 3] - log.decode_spans[:, 2]).sum())


def last_token_s(log: TokenLog, counted: Bools) -> float:
    """Return when the last counted token was emitted; -inf: never."""
    return float(log.end_s[token_spans(_only(log, counted))[2]].max(initial=-np.inf))


def token_spans(log: TokenLog) -> tuple[Ints, Ints, Ints]:
    """Return the prefill ends and then the decode spans of a replica.

    Returns:
        int64[n] each: request, iteration of the first token, and iteration of the last token.
    """
    request, _, joined, left = log.decode_spans.T
    first, last = np.zeros_like(joined), np.zeros_like(left)
    for own, iterations in _by_decode_set(log):
        first[own], last[own] = iterations[joined[own]], iterations[left[own] - 1]
    prefilled, iteration = log.prefill_ends.T
    return np.append(prefilled, request), np.append(iteration, first), np.append(iteration, last)


def _only(log: TokenLog, counted: Bools) -> TokenLog:
    """Return the tokens of some requests."""
    return replace(
        log,
        prefill_ends=log.prefill_ends[counted[log.prefill_ends[:, 0]]],
        decode_spans=log.decode_spans[counted[log.decode_spans[:, 0]]],
    )


def _by_decode_set(log: TokenLog) -> Iterator[tuple[Bools, Ints]]:
    """Yield the decode spans and the iterations of each decode set."""
    for index in np.unique(log.decode_spans[:, 1]):
        yield log.decode_spans[:, 1] == index, np.flatnonzero(log.decode_set == index)


def _members(size: int, joined: Ints, left: Ints) -> Ints:
    """Return how many spans of [joined, left) cover each of `size` iterations."""
    change = np.zeros(size + 1, dtype=np.int64)
    np.add.at(change, joined, 1)
    np.add.at(change, left, -1)
    return np.cumsum(change)[:-1]


def _gaps_within_spans(log: TokenLog) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield the gaps within decode spans, as in `GapSpans`."""
    for own, iterations in _by_decode_set(log):
        _, _, joined, left = log.decode_spans[own].T
        # A decode span adds a waiting request from its second iteration to its last.
        yield iterations[:-1], iterations[1:], _members(len(iterations), joined + 1, left)[1:]


def _consecutive(request: Ints, *keys: NDArray[Any]) -> tuple[Ints, Ints]:
    """Return the rows of each request, and the rows that follow them.

    They are sorted by the last key first.
    """
    order = np.lexsort((*keys, request))
    is_same = request[order[1:]] == request[order[:-1]]
    return order[:-1][is_same], order[1:][is_same]
