"""Automatic prefix caching: KV blocks that are found again by what they hold.

A full KV block carries a label that stands for the whole prefix up to its end. It keeps the label when nobody holds
it any more, until it is taken for something else; until then a request with the same prefix can have it.

Labels are kept as spans of consecutive ones, so that a prompt costs as much as the parts that it shares with others,
however long it is. What no request has in common with others is one span.
"""

from collections.abc import Iterator

from simulator.kv_cache.block_hashes import BlockHashes


class _Span:
    """Consecutive labels that are all on the same number of blocks.

    Attributes:
        first: First label.
        end: Label behind the last one.
        copies: Who carries them, the one that was labelled first in front.
    """

    __slots__ = ("copies", "end", "first")

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end
        self.copies: list[_Copy] = []


class _Copy:
    """Blocks that carry the labels of a span, one each.

    Attributes:
        span: The labels.
        ref_count: Requests that hold the blocks.
        before: In the queue of those that nobody holds, the one that is reused before it.
        after: The one that is reused after it.
    """

    __slots__ = ("after", "before", "ref_count", "span")

    def __init__(self, span: _Span, ref_count: int) -> None:
        self.span = span
        self.ref_count = ref_count
        self.before = self.after = self


class BlockHashCache:
    """Labelled KV blocks of a replica: who holds them, and in which order those that nobody holds are reused.

    Cached prefixes are whole: a block is labelled after those before it in its sequence and reused before them.

    Attributes:
        num_evictable: Labelled blocks that nobody holds.

    Source: the design of vLLM V1's prefix cache, https://docs.vllm.ai/en/latest/design/prefix_caching.html.
    """

    __slots__ = (
        "_block_hashes",
        "_held",
        "_num_cached",
        "_queue",
        "_runs",
        "_spans",
        "num_evictable",
    )

    def __init__(self, block_hashes: BlockHashes) -> None:
        """Start empty.

        Args:
            block_hashes: What the blocks of each request hold.
        """
        self.num_evictable = 0
        self._block_hashes = block_hashes
        self._spans: dict[int, _Span] = {}
        # Ends of the queue: what is reused first is behind it, what is reused last before it.
        self._queue = _Copy(_Span(0, 0), 0)
        # Of running requests: labelled blocks, in the sequence's order, and how many.
        self._held: dict[int, list[_Copy]] = {}
        self._num_cached: dict[int, int] = {}
        self._runs: dict[int, list[tuple[int, int]]] = {}

    @property
    def num_cached_hashes(self) -> int:
        """Different labels that are on blocks."""
        return sum(span.end - span.first for span in self._spans.values())

    def match(self, request: int, most_blocks: int) -> tuple[int, int]:
        """Look a prefix up.

        Args:
            request: Whose.
            most_blocks: Blocks that it may have at most.

        Returns:
            Blocks at its beginning that are there, and how many of them nobody holds.
        """
        num_found = num_evictable = 0
        for span, end in self._walk(request, most_blocks):
            num_found += end - span.first
            if span.copies[0].ref_count == 0:
                num_evictable += end - span.first
        return num_found, num_evictable

    def _walk(self, request: int, most_blocks: int) -> Iterator[tuple[_Span, int]]:
        """Yield the cached spans of a prefix, each with the label behind the last one that belongs to it."""
        spans = self._spans
        for first, length in self._runs_of(request):
            end = first + min(length, most_blocks)
            most_blocks -= length
            while first < end:
                span = spans.get(first)
                if span is None:
                    return
                first = min(span.end, end)
                yield span, first

    def acquire(self, request: int, num_blocks: int) -> int:
        """Let a request hold the first blocks of its prefix, all of which are there.

        Returns:
            How many of them nobody held.
        """
        num_evictable = 0
        held = []
        for span, end in list(self._walk(request, num_blocks)):
            if end < span.end:
                self._split(span, end)
            copy = span.copies[0]
            if copy.ref_count == 0:
                self._leave_queue(copy)
                num_evictable += span.end - span.first
            copy.ref_count += 1
            held.append(copy)
        self._held[request] = held
        self._num_cached[request] = num_blocks
        self.num_evictable -= num_evictable
        return num_evictable

    def cache_blocks(self, request: int, num_blocks: int) -> None:
        """Label the first blocks of a request that holds them; what it held labelled stays so."""
        skip = self._num_cached[request]
        if num_blocks <= skip:
            return
        self._num_cached[request] = num_blocks
        for first, length in self._runs_of(request):
            if skip < length:
                self._add(request, first + max(skip, 0), first + min(length, num_blocks))
            skip -= length
            num_blocks -= length
            if num_blocks <= 0:
                return

    def _add(self, request: int, first: int, end: int) -> None:
        held = self._held[request]
        while first < end:
            span = self._spans.get(first)
            if span is None:  # nothing from here on is cached
                last = held[-1] if held else None
                if last is not None and last.span.end == first and last.ref_count == len(last.span.copies) == 1:
                    last.span.end = end
                    return
                span = self._spans[first] = _Span(first, end)
            elif span.end > end:
                self._split(span, end)
            copy = _Copy(span, 1)
            span.copies.append(copy)
            held.append(copy)
            first = span.end

    def release(self, request: int) -> int:
        """Let a request hold nothing any more, the end of its sequence to be reused first.

        Returns:
            Labelled blocks that nobody holds now.
        """
        num_evictable = 0
        for copy in reversed(self._held.pop(request)):
            copy.ref_count -= 1
            if copy.ref_count == 0:
                self._queue_before(self._queue, copy)
                num_evictable += copy.span.end - copy.span.first
        del self._num_cached[request]
        self.num_evictable += num_evictable
        return num_evictable

    def referenced_spans(self, request: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the labelled blocks of a running request: which copy, first label, end, and how many hold it.

        Raises:
            RuntimeError: Their labels are not those of the request.
        """
        held = iter(self._held[request])
        left = self._num_cached[request]
        for first, length in self._runs_of(request):
            end = first + min(length, left)
            left -= length
            while first < end:
                copy = next(held)
                if copy.span.first != first or copy.span.end > end:
                    raise RuntimeError(f"request {request} holds labels {copy.span.first} to {copy.span.end}")
                yield id(copy), first, copy.span.end, copy.ref_count
                first = copy.span.end

    def num_cached(self, request: int) -> int:
        """Labelled blocks that a running request holds."""
        return self._num_cached[request]

    def shares(self, request: int, block: int) -> bool:
        """Whether a block of a request, counted from 0, has a label that other requests have too."""
        return bool(self._block_hashes.num_shared[request] > block)

    def drop(self, request: int) -> None:
        """Drop what is remembered of a request that will not come back."""
        self._runs.pop(request, None)

    def evict_to(self, num_blocks: int) -> int:
        """Take labels from the blocks that are reused first, until no more than so many that nobody holds have one.

        Returns:
            Labels taken.
        """
        before = self.num_evictable
        while (excess := self.num_evictable - num_blocks) > 0:
            copy = self._queue.after
            span = copy.span
            size = span.end - span.first
            if size > excess:
                if len(span.copies) == 1:
                    span.end -= excess
                    self.num_evictable -= excess
                    break
                self._split(span, span.end - excess)
                continue
            self._leave_queue(copy)
            span.copies.remove(copy)
            if not span.copies:
                del self._spans[span.first]
            self.num_evictable -= size
        return before - self.num_evictable

    def clear(self) -> None:
        """Lose everything."""
        self.num_evictable = 0
        self._spans.clear()
        self._held.clear()
        self._num_cached.clear()
        self._runs.clear()
        self._queue = _Copy(_Span(0, 0), 0)

    def _runs_of(self, request: int) -> list[tuple[int, int]]:
        runs = self._runs.get(request)
        if runs is None:
            runs = self._runs[request] = self._block_hashes.runs_of(request)
        return runs

    def _split(self, span: _Span, at: int) -> None:
        """Make two spans of one; of what nobody holds, the part behind is reused first."""
        rest = self._spans[at] = _Span(at, span.end)
        span.end = at
        for copy in span.copies:
            tail = _Copy(rest, copy.ref_count)
            rest.copies.append(tail)
            if copy.ref_count == 0:
                self._queue_before(copy, tail)
                continue
            for held in self._held.values():
                if copy in held:
                    held.insert(held.index(copy) + 1, tail)

    @staticmethod
    def _queue_before(place: _Copy, copy: _Copy) -> None:
        before = place.before
        copy.before, copy.after = before, place
        before.after = place.before = copy

    @staticmethod
    def _leave_queue(copy: _Copy) -> None:
        copy.before.after, copy.after.before = copy.after, copy.before
