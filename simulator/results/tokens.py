"""When requests emit tokens, and the gaps between consecutive tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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
        decode_set: int64[num_iterations], the decode set in each iteration; negative: none.
        prefill_ends: int64[k, 2], request and iteration of each completed prefill: one token.
        decode_spans: int64[m, 4], request, decode set, joined, left: one token in each of the set's
            iterations in (joined, left], the first being number 1.
        moved: int64[l], requests that other replicas may have served too. Their gaps between spans of tokens are
            in `gaps_of_moved`, not in the gaps of one replica.
    """

    end_s: Floats
    decode_set: Ints
    prefill_ends: Ints
    decode_spans: Ints
    moved: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


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


def gap_spans(log: TokenLog, counted: Bools) -> GapSpans:
    """Return the gaps between consecutive tokens of each request, restarts included.

    Args:
        log: Tokens of one replica.
        counted: bool[num_requests], the requests whose gaps count.
    """
    prefill_ends = log.prefill_ends[counted[log.prefill_ends[:, 0]]]
    decode_spans = list(_by_decode_set(log, log.decode_spans[counted[log.decode_spans[:, 0]]]))
    first, last, weights = [], [], []
    for iterations, _, joined, left in decode_spans:
        # A decode span adds a waiting request from its second iteration to its last.
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
    """Return the times between consecutive tokens of each request, restarts included.

    Args:
        log: Tokens of one replica.
        counted: bool[num_requests], the requests whose gaps count.

    Returns:
        float64[n] gaps in seconds and int64[n] number of requests with each gap.
    """
    spans = gap_spans(log, counted)
    return log.end_s[spans.last] - log.end_s[spans.first], spans.weight


def decodes_emitted(log: TokenLog) -> Ints:
    """Return the decode tokens emitted at the end of each iteration: int64[num_iterations]."""
    emitted = np.zeros(len(log.end_s), dtype=np.int64)
    for iterations, _, joined, left in _by_decode_set(log, log.decode_spans):
        change = np.zeros(len(iterations) + 1, dtype=np.int64)
        np.add.at(change, joined, 1)
        np.add.at(change, left, -1)
        emitted[iterations] += np.cumsum(change)[:-1]
    return emitted


def emitted_tokens(log: TokenLog, num_requests: int) -> Ints:
    """Return the output tokens of each request: int64[num_requests]."""
    request, _, joined, left = log.decode_spans.T
    num_tokens = np.bincount(log.prefill_ends[:, 0], minlength=num_requests).astype(np.int64)
    np.add.at(num_tokens, request, left - joined)
    return num_tokens


def last_token_s(log: TokenLog, counted: Bools) -> float:
    """Return when the last counted token was emitted; -inf: never."""
    request, _, last = _spans(log.prefill_ends, list(_by_decode_set(log, log.decode_spans)))
    return float(log.end_s[last[counted[request]]].max(initial=-np.inf))


# Decode spans of one decode set: its iterations, and for each span the request, joined and left, as in `TokenLog`.
DecodeSpans = tuple[Ints, Ints, Ints, Ints]


def _by_decode_set(log: TokenLog, decode_spans: Ints) -> Iterator[DecodeSpans]:
    for index in np.unique(decode_spans[:, 1]):
        request, _, joined, left = decode_spans[decode_spans[:, 1] == index].T
        yield np.flatnonzero(log.decode_set == index), request, joined, left


def gaps_of_moved(logs: Sequence[TokenLog]) -> tuple[Ints, Floats]:
    """Return the gaps between token spans of moved requests.

    Several replicas may have served such a request.

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
    """Return the prefills and decode spans of requests.

    Returns:
        int64[n] each: request, iteration of the first token, and iteration of the last token.
    """
    request = np.concatenate([prefill_ends[:, 0], *(requests for _, requests, _, _ in decode_spans)])
    first = np.concatenate([prefill_ends[:, 1], *(iterations[joined] for iterations, _, joined, _ in decode_spans)])
    last = np.concatenate([prefill_ends[:, 1], *(iterations[left - 1] for iterations, _, _, left in decode_spans)])
    return request, first, last


def _between_spans(prefill_ends: Ints, decode_spans: Sequence[DecodeSpans], moved: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the gaps between consecutive spans of a request.

    A span is a prefill or a decode span.

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
