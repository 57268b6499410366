"""What the KV blocks of each request hold: labels, equal where the whole prefix up to the block's end is equal."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces import PrefixBlocks, Trace

Ints = NDArray[np.int64]
# Runs of labels as arrays: int64[n] request, first label and number of labels of each.
Runs = tuple[Ints, Ints, Ints]

_ROWS_AT_A_TIME = 1 << 16
_LARGEST_ID = 1 << 40


@dataclass(frozen=True)
class BlockHashes:
    """Labels of the full KV blocks of prompt and output of each request, as runs of consecutive numbers.

    Attributes:
        first: int64[num_runs], first label of each run, request after request.
        length: int64[num_runs], labels in each run.
        starts: int64[num_requests + 1], where the runs of each request begin.
        num_shared: int64[num_requests], leading blocks of a request whose labels others have too.
    """

    first: Ints
    length: Ints
    starts: Ints
    num_shared: Ints

    @classmethod
    def of(cls, trace: Trace, block_size: int) -> "BlockHashes":
        """Label the blocks of a trace.

        Prefix blocks of the trace say which are equal. Of requests without any, a turn of a session whose prompt has
        room for the prompt and the answer of the turn before it begins with both. All other blocks are a request's own.

        Args:
            trace: The requests.
            block_size: Tokens per KV block.

        Raises:
            ValueError: Ids of prefix blocks are not those of whole prefixes.
        """
        num_blocks = (trace.prompt_tokens + trace.output_tokens) // block_size
        known = _no_runs() if trace.prefix is None else _known_runs(trace, trace.prefix, block_size)
        num_known = np.bincount(known[0], known[2], minlength=len(trace)).astype(np.int64)
        # A gap between the two, or the last run of known labels would go on in the first one of the others.
        base = 1 + int((known[1] + known[2]).max()) if len(known[1]) else 0
        others = _other_runs(trace, num_blocks - num_known, num_known == 0, base)
        request, first, length = (np.concatenate(columns) for columns in zip(known, others, strict=True))
        order = np.argsort(request, kind="stable")
        request, first, length = request[order], first[order], length[order]
        _require_prefixes(request, first, length)
        shared = np.bincount(request, _num_shared(first, length), minlength=len(trace)).astype(np.int64)
        return cls(first, length, np.searchsorted(request, np.arange(len(trace) + 1)), shared)

    def runs_of(self, request: int) -> list[tuple[int, int]]:
        """First label and number of labels of each run of a request."""
        part = slice(int(self.starts[request]), int(self.starts[request + 1]))
        return list(zip(self.first[part].tolist(), self.length[part].tolist(), strict=True))


def _turn_before(trace: Trace) -> Ints:
    """The turn whose prompt and answer each prompt begins with, as far as lengths tell; -1: none."""
    before = np.full(len(trace), -1)
    if trace.session is None:
        return before
    session, turn = trace.turns()
    order = np.lexsort((turn, session))
    earlier, later = order[:-1], order[1:]
    goes_on = turn[later] > 0
    goes_on &= trace.prompt_tokens[later] >= (trace.prompt_tokens + trace.output_tokens)[earlier]
    before[later[goes_on]] = earlier[goes_on]
    return before


def _no_runs() -> Runs:
    none = np.zeros(0, dtype=np.int64)
    return none, none, none


def _other_runs(trace: Trace, num_blocks: Ints, unknown: NDArray[np.bool_], base: int) -> Runs:
    """Runs of labels of which prefix blocks say nothing.

    Args:
        trace: The requests.
        num_blocks: KV blocks of each request that have no label yet.
        unknown: Of which requests no block has one.
        base: The first label.
    """
    if trace.prefix is not None:
        unknown = unknown & (np.diff(trace.prefix.starts) == 0)
    before = _turn_before(trace)
    head = np.arange(len(trace))
    # Turns stand in order, so that the chain of the turn before is known.
    for row in np.flatnonzero((before >= 0) & unknown & unknown[before]).tolist():
        head[row] = head[before[row]]
    size = np.zeros(len(trace), dtype=np.int64)
    np.maximum.at(size, head, num_blocks)
    rows = np.flatnonzero(num_blocks)
    return rows, base + (np.cumsum(size) - size)[head[rows]], num_blocks[rows]


def _known_runs(trace: Trace, prefix: PrefixBlocks, block_size: int) -> Runs:
    """Runs of labels that follow from the prefix blocks of the trace."""
    block_tokens = prefix.block_tokens or block_size
    num_given = np.diff(prefix.starts)
    total = trace.prompt_tokens + trace.output_tokens
    # More blocks than the prompt has are those of prompt and output.
    with_output = num_given > -(-trace.prompt_tokens // block_tokens)
    num_tokens = np.where(with_output | (prefix.block_tokens is None), total, trace.prompt_tokens)
    before = _turn_before(trace)
    later = np.flatnonzero(before >= 0)
    later = later[~(with_output | (prefix.block_tokens is None))[before[later]]]
    later = later[_begins_with(prefix, later, before[later], trace.prompt_tokens[before[later]] // block_tokens)]
    source = np.arange(len(trace))
    # What the last turn begins with are all prompts and answers before it.
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


def _begins_with(prefix: PrefixBlocks, rows: Ints, others: Ints, num_blocks: Ints) -> NDArray[np.bool_]:
    """Whether requests begin with the first so many blocks of others, each at least as long."""
    known = np.minimum(np.diff(prefix.starts)[rows], np.diff(prefix.starts)[others])
    last = np.maximum(np.minimum(num_blocks, known) - 1, 0)
    same = np.ones(len(rows), dtype=bool)
    some = np.minimum(num_blocks, known) > 0
    starts = prefix.starts[:-1]
    same[some] = prefix.ids[(starts[rows] + last)[some]] == prefix.ids[(starts[others] + last)[some]]
    return same


def _dense(prefix: PrefixBlocks) -> PrefixBlocks:
    """The same blocks with ids that leave room for products."""
    if len(prefix.ids) == 0 or (prefix.ids.min() >= 0 and prefix.ids.max() < _LARGEST_ID):
        return prefix
    return prefix.renumbered()


def _runs_of_rows(
    prefix: PrefixBlocks, source: Ints, rows: Ints, num_blocks: Ints, block_size: int, block_tokens: int
) -> Runs:
    """Runs of labels of some requests.

    Args:
        prefix: Blocks of `block_tokens` tokens.
        source: The request whose prefix blocks each of them begins with.
        rows: The requests.
        num_blocks: KV blocks that get a label from there, of each.
        block_size: Tokens of a KV block.
        block_tokens: Tokens of a block of the trace.
    """
    place = np.arange(int(num_blocks.sum())) - np.repeat(np.cumsum(num_blocks) - num_blocks, num_blocks)
    # The block of the trace that holds the last token of the KV block says what the prefix is.
    given = ((place + 1) * block_size - 1) // block_tokens
    ids = prefix.ids[np.repeat(prefix.starts[:-1][source], num_blocks) + given].astype(np.int64)
    labels = ids * -(-block_tokens // block_size) + place - given * block_tokens // block_size
    if block_size > block_tokens:
        labels = ids
    begins = np.ones(len(labels), dtype=bool)
    begins[1:] = (labels[1:] != labels[:-1] + 1) | (place[1:] == 0)
    start = np.flatnonzero(begins)
    return np.repeat(rows, num_blocks)[start], labels[start], np.diff(start, append=len(labels))


def _require_prefixes(request: Ints, first: Ints, length: Ints) -> None:
    """Check that each label stands behind the same one wherever it occurs, as that of a whole prefix does.

    Raises:
        ValueError: One does not.
    """
    end = first + length
    behind = np.full(len(first), -1)
    goes_on = request[1:] == request[:-1]
    behind[1:][goes_on] = end[:-1][goes_on] - 1
    order = np.lexsort((behind, first))
    first, end, behind, request = first[order], end[order], behind[order], request[order]
    place = np.searchsorted(first, first)
    differs = behind != behind[place]
    # Of runs that begin earlier, how far they reach: the label is inside of one if that is farther.
    reach = np.maximum.accumulate(np.append(-1, end))[place]
    differs |= (reach > first) & (behind != first - 1)
    if differs.any():
        raise ValueError(
            f"block_ids: a block of request number {request[differs.argmax()]} stands behind another one than "
            "elsewhere; equal ids must mean equal tokens from the beginning of the prompt to the end of the block"
        )


def _num_shared(first: Ints, length: Ints) -> Ints:
    """Leading labels of each run that another run has too."""
    if len(first) == 0:
        return length
    edges = np.concatenate([first, first + length])
    steps = np.concatenate([np.ones(len(first), dtype=np.int64), np.full(len(first), -1)])
    edge, inverse = np.unique(edges, return_inverse=True)
    cover = np.cumsum(np.bincount(inverse, steps, minlength=len(edge)).astype(np.int64))
    # Where, from each edge on, the next label is that of one run at most.
    single = np.where(cover < 2, edge, edge[-1])
    until = np.minimum.accumulate(single[::-1])[::-1]
    return np.minimum(until[inverse[: len(first)]] - first, length)
