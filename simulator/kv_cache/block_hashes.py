"""Block hashes of each request, equal where the whole prefix is equal.

The prefix of a block ends with the block itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces import PrefixBlocks, Trace

Ints = NDArray[np.int64]
# Runs of consecutive hashes as arrays: int64[num_runs] request, first hash and number of hashes of each.
Runs = tuple[Ints, Ints, Ints]

_ROWS_AT_A_TIME = 1 << 16
_LARGEST_ID = 1 << 40


@dataclass(frozen=True)
class BlockHashes:
    """Hashes of each request's full KV blocks, as runs of consecutive numbers.

    Blocks cover prompt and output.

    Attributes:
        first: int64[num_runs], first hash of each run, request after request.
        length: int64[num_runs], hashes in each run.
        starts: int64[num_requests + 1], where the runs of each request begin.
        num_shared: int64[num_requests], leading blocks of a request that other requests have too.
    """

    first: Ints
    length: Ints
    starts: Ints
    num_shared: Ints

    @classmethod
    def of(cls, trace: Trace, block_size: int) -> "BlockHashes":
        """Hash the blocks of a trace.

        The prefix blocks of the trace say which blocks are equal. Among requests without prefix blocks, a turn of a
        session begins with the prompt and the output of the turn before it if its prompt is long enough. All other
        blocks belong to one request only.

        Args:
            trace: The requests.
            block_size: Tokens per KV block.

        Raises:
            ValueError: Ids of prefix blocks do not stand for whole prefixes.
        """
        num_blocks = (trace.prompt_tokens + trace.output_tokens) // block_size
        known = _no_runs() if trace.prefix is None else _known_runs(trace, trace.prefix, block_size)
        num_known = np.bincount(known[0], known[2], minlength=len(trace)).astype(np.int64)
        # Leave a gap: otherwise the last known run would continue in the first of the others.
        base = 1 + int((known[1] + known[2]).max()) if len(known[1]) else 0
        others = _other_runs(trace, num_blocks - num_known, num_known == 0, base)
        request, first, length = (np.concatenate(columns) for columns in zip(known, others, strict=True))
        order = np.argsort(request, kind="stable")
        request, first, length = request[order], first[order], length[order]
        _require_prefixes(request, first, length)
        shared = np.bincount(request, _num_shared(first, length), minlength=len(trace)).astype(np.int64)
        return cls(first, length, np.searchsorted(request, np.arange(len(trace) + 1)), shared)

    def runs_of(self, request: int) -> list[tuple[int, int]]:
        """Return (first hash, number of hashes) of each run of a request."""
        part = slice(int(self.starts[request]), int(self.starts[request + 1]))
        return list(zip(self.first[part].tolist(), self.length[part].tolist(), strict=True))


def _turn_before(trace: Trace) -> Ints:
    """Return the turn whose prompt and output each prompt begins with.

    Only the numbers of tokens are compared.

    Returns:
        int64[num_requests], index of the turn before it in the session; -1: none.
    """
    before = np.full(len(trace), -1)
    if trace.session is None:
        return before
    session, turn = trace.turns()
    order = np.lexsort((turn, session))
    earlier, later = order[:-1], order[1:]
    continues = turn[later] > 0
    continues &= trace.prompt_tokens[later] >= (trace.prompt_tokens + trace.output_tokens)[earlier]
    before[later[continues]] = earlier[continues]
    return before


def _no_runs() -> Runs:
    empty = np.zeros(0, dtype=np.int64)
    return empty, empty, empty


def _other_runs(trace: Trace, num_blocks: Ints, unknown: NDArray[np.bool_], base: int) -> Runs:
    """Return the runs of hashes that do not follow from prefix blocks.

    Args:
        trace: The requests.
        num_blocks: int64[num_requests], KV blocks of each request without a hash so far.
        unknown: bool[num_requests], requests none of whose blocks has a hash so far.
        base: First hash to use.
    """
    if trace.prefix is not None:
        unknown = unknown & (np.diff(trace.prefix.starts) == 0)
    before = _turn_before(trace)
    head = np.arange(len(trace))
    # The trace has the turns of a session in order, so the head of the previous turn is known.
    for row in np.flatnonzero((before >= 0) & unknown & unknown[before]).tolist():
        head[row] = head[before[row]]
    size = np.zeros(len(trace), dtype=np.int64)
    np.maximum.at(size, head, num_blocks)
    rows = np.flatnonzero(num_blocks)
    return rows, base + (np.cumsum(size) - size)[head[rows]], num_blocks[rows]


def _known_runs(trace: Trace, prefix: PrefixBlocks, block_size: int) -> Runs:
    """Return the runs of hashes given by the trace's prefix blocks."""
    block_tokens = prefix.block_tokens or block_size
    num_given = np.diff(prefix.starts)
    total = trace.prompt_tokens + trace.output_tokens
    # A request with more blocks than its prompt needs has those of prompt and output.
    with_output = num_given > -(-trace.prompt_tokens // block_tokens)
    num_tokens = np.where(with_output | (prefix.block_tokens is None), total, trace.prompt_tokens)
    before = _turn_before(trace)
    later = np.flatnonzero(before >= 0)
    later = later[~(with_output | (prefix.block_tokens is None))[before[later]]]
    later = later[_begins_with(prefix, later, before[later], trace.prompt_tokens[before[later]] // block_tokens)]
    source = np.arange(len(trace))
    # The last turn of a chain begins with all prompts and outputs before it.
    for row in later[::-1].tolist():
        source[before[row]] = source[row]
    num_tokens[before[later]] = total[before[later]]
    num_tokens = np.minimum(num_tokens, num_given[source] * block_tokens)
    dense = _dense(prefix)
    parts = [
        _runs_of_rows(dense, source[rows], rows, num_tokens[rows] // block_size, block_size, block_tokens)
        for rows in np.split(np.arange(len(trace)), range(_ROWS_AT_A_TIME, len(trace), _ROWS_AT_A_TIME))
    ]
    request, first, length = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return request, first, length


def _begins_with(prefix: PrefixBlocks, rows: Ints, earlier: Ints, num_blocks: Ints) -> NDArray[np.bool_]:
    """Return whether requests begin with the first `num_blocks` blocks of earlier ones.

    Args:
        prefix: Blocks of all requests.
        rows: int64[n], the requests.
        earlier: int64[n], the request to compare each of them with.
        num_blocks: int64[n], full blocks of the prompts of these.
    """
    known = np.minimum(np.diff(prefix.starts)[rows], np.diff(prefix.starts)[earlier])
    last = np.maximum(np.minimum(num_blocks, known) - 1, 0)
    same = np.ones(len(rows), dtype=bool)
    has_blocks = np.minimum(num_blocks, known) > 0
    starts = prefix.starts[:-1]
    # The id of a block stands for the whole prefix, so the last one decides.
    same[has_blocks] = prefix.ids[(starts[rows] + last)[has_blocks]] == prefix.ids[(starts[earlier] + last)[has_blocks]]
    return same


def _dense(prefix: PrefixBlocks) -> PrefixBlocks:
    """Return the same blocks with ids small enough to multiply without overflow."""
    if len(prefix.ids) == 0 or (prefix.ids.min() >= 0 and prefix.ids.max() < _LARGEST_ID):
        return prefix
    return prefix.renumbered()


def _runs_of_rows(
    prefix: PrefixBlocks, source: Ints, rows: Ints, num_blocks: Ints, block_size: int, block_tokens: int
) -> Runs:
    """Return the runs of hashes of some requests.

    Args:
        prefix: Blocks of `block_tokens` tokens.
        source: int64[n], the request whose prefix blocks each of them begins with.
        rows: int64[n], the requests.
        num_blocks: int64[n], KV blocks of each that follow from those prefix blocks.
        block_size: Tokens per KV block.
        block_tokens: Tokens per block of the trace.
    """
    position = np.arange(int(num_blocks.sum())) - np.repeat(np.cumsum(num_blocks) - num_blocks, num_blocks)
    # The block of the trace with the last token of the KV block identifies the prefix.
    trace_block = ((position + 1) * block_size - 1) // block_tokens
    ids = prefix.ids[np.repeat(prefix.starts[:-1][source], num_blocks) + trace_block].astype(np.int64)
    hashes = ids * -(-block_tokens // block_size) + position - trace_block * block_tokens // block_size
    if block_size > block_tokens:
        hashes = ids
    begins = np.ones(len(hashes), dtype=bool)
    begins[1:] = (hashes[1:] != hashes[:-1] + 1) | (position[1:] == 0)
    start = np.flatnonzero(begins)
    return np.repeat(rows, num_blocks)[start], hashes[start], np.diff(start, append=len(hashes))


def _require_prefixes(request: Ints, first: Ints, length: Ints) -> None:
    """Check that each hash follows the same hash wherever it occurs.

    Hashes of whole prefixes always do.

    Raises:
        ValueError: One does not.
    """
    end = first + length
    previous = np.full(len(first), -1)
    continues = request[1:] == request[:-1]
    previous[1:][continues] = end[:-1][continues] - 1
    order = np.lexsort((previous, first))
    first, end, previous, request = first[order], end[order], previous[order], request[order]
    position = np.searchsorted(first, first)
    differs = previous != previous[position]
    # The farthest end of runs with smaller first hashes: beyond `first`, the hash is inside one of them.
    reach = np.maximum.accumulate(np.append(-1, end))[position]
    differs |= (reach > first) & (previous != first - 1)
    if differs.any():
        raise ValueError(
            f"block_ids: a block of request number {request[differs.argmax()]} follows a different block than "
            "elsewhere; equal ids must mean equal tokens from the beginning of the prompt to the end of the block"
        )


def _num_shared(first: Ints, length: Ints) -> Ints:
    """Return how many leading hashes of each run another run has too."""
    if len(first) == 0:
        return length
    edges = np.concatenate([first, first + length])
    steps = np.concatenate([np.ones(len(first), dtype=np.int64), np.full(len(first), -1)])
    edge, inverse = np.unique(edges, return_inverse=True)
    cover = np.cumsum(np.bincount(inverse, steps, minlength=len(edge)).astype(np.int64))
    # From each edge on, the next hash that at most one run has.
    single = np.where(cover < 2, edge, edge[-1])
    until = np.minimum.accumulate(single[::-1])[::-1]
    return np.minimum(until[inverse[: len(first)]] - first, length)
