"""Decoding requests, kept as running totals."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush

from simulator.log import DecodeSpan, IntRows

_NEVER = 1 << 62


class DecodeSet:
    """Requests that decode together, kept as totals.

    An iteration costs the same for any number of members. Each member gains one token per iteration, so
    `context - iteration` is constant for a member, and the summed context, the members whose last KV block
    is full and those that emit their last token are known without a loop over the members.

    Attributes:
        index: Index of the set in its replica.
        iteration: Iterations computed so far.
        num_requests: Number of members.
        context_tokens: Tokens in the KV cache, summed over the members. The newest token of a request
            enters the cache only with the next iteration and does not count.
        num_new_blocks: KV blocks that the members need for their next tokens.
    """

    __slots__ = (
        "_block_size",
        "_by_residue",
        "_ends",
        "_finishing",
        "_members",
        "_next_end",
        "_spans",
        "context_tokens",
        "index",
        "iteration",
        "num_new_blocks",
        "num_requests",
    )

    def __init__(self, index: int, block_size: int, spans: IntRows) -> None:
        """Start without members.

        Args:
            index: Index of the set in its replica.
            block_size: Tokens per KV block.
            spans: Decode spans of members that have left.
        """
        self.index = index
        self._spans = spans
        self.iteration = 0
        self.num_requests = 0
        self.context_tokens = 0
        self.num_new_blocks = 0
        self._block_size = block_size
        # By member: context tokens minus iteration count (constant while it decodes), and the
        # iteration counts at which it joined and at which it emits its last token.
        self._members: dict[int, tuple[int, int, int]] = {}
        self._finishing: dict[int, list[int]] = {}
        # Heap of the iterations in which members emit their last tokens, and the next one. Some may have no members.
        self._ends: list[int] = []
        self._next_end = _NEVER
        # Members that append blocks, by offset modulo block_size: one residue needs blocks in each iteration.
        self._by_residue: list[dict[int, None]] = [{} for _ in range(block_size)]

    def __contains__(self, request: int) -> bool:
        return request in self._members

    def __iter__(self) -> Iterator[int]:
        return iter(self._members)

    def context_of(self, request: int) -> int:
        """Return the tokens of a member in the KV cache."""
        return self._members[request][0] + self.iteration

    def remaining_of(self, request: int) -> int:
        """Return the tokens that a member still has to emit."""
        return self._members[request][2] - self.iteration

    def needs_block(self, request: int) -> bool:
        """Whether a member's next token needs another KV block."""
        residue = -self.iteration % self._block_size
        return request in self._by_residue[residue]

    def full_after(self, num_tokens: int) -> Iterable[int]:
        """Return members whose context plus `num_tokens` fills whole KV blocks."""
        return self._by_residue[(-self.iteration - num_tokens) % self._block_size]

    def open_decode_spans(self) -> list[DecodeSpan]:
        """Return the decode spans of the present members so far."""
        spans = [(request, self.index, joined, self.iteration) for request, (_, joined, _) in self._members.items()]
        return [span for span in spans if span[3] > span[2]]

    def add(self, request: int, context_tokens: int, num_remaining: int, appends_blocks: bool) -> None:
        """Add a request.

        Args:
            request: Index of the request, not a member yet.
            context_tokens: Its tokens in the KV cache.
            num_remaining: Tokens it still has to emit, at least 1.
            appends_blocks: Whether it is allocated another KV block when its last one is full.
        """
        iteration = self.iteration
        offset = context_tokens - iteration
        last = iteration + num_remaining
        self._members[request] = (offset, iteration, last)
        finishing = self._finishing.get(last)
        if finishing is None:
            self._finishing[last] = [request]
            heappush(self._ends, last)
            self._next_end = self._ends[0]
        else:
            finishing.append(request)
        self.num_requests += 1
        self.context_tokens += context_tokens
        if appends_blocks:
            self._by_residue[offset % self._block_size][request] = None
            self._count_new_blocks()

    def remove(self, request: int) -> None:
        """Remove a member before its last token."""
        last = self._members[request][2]
        finishing = self._finishing[last]
        finishing.remove(request)
        if not finishing:
            del self._finishing[last]
        self._leave(request)
        self._count_new_blocks()

    def advance(self) -> Sequence[int]:
        """Emit one token for each member.

        Remove those that get their last one.

        Returns:
            The members that have left.
        """
        self.iteration += 1
        self.context_tokens += self.num_requests
        left: Sequence[int] = self._end_members() if self.iteration == self._next_end else ()
        self._count_new_blocks()
        return left

    def _count_new_blocks(self) -> None:
        self.num_new_blocks = len(self._by_residue[-self.iteration % self._block_size])

    def _end_members(self) -> Sequence[int]:
        """Remove and return the members that emit their last token now."""
        while self._ends and self._ends[0] <= self.iteration:
            heappop(self._ends)
        self._next_end = self._ends[0] if self._ends else _NEVER
        requests = self._finishing.pop(self.iteration, ())
        for request in requests:
            self._leave(request)
        return requests

    def _leave(self, request: int) -> None:
        offset, joined, _ = self._members.pop(request)
        self.num_requests -= 1
        self.context_tokens -= offset + self.iteration
        self._by_residue[offset % self._block_size].pop(request, None)
        if self.iteration > joined:
            self._spans.add(request, self.index, joined, self.iteration)
