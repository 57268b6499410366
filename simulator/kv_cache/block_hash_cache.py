"""Automatic prefix caching: KV blocks found by their block hash.

A full KV block has a hash that stands for the whole prefix up to its end. A block that no request references stays
cached until it is evicted; until then a request with the same prefix can use it.

Hashes are kept as spans of consecutive ones, so a prompt of any length costs as much as the number of parts that it
shares with other requests. The part that it shares with none is one span.
"""

from collections.abc import Iterator

from simulator.kv_cache.block_hashes import BlockHashes


class _Span:
    """Consecutive block hashes, all cached in the same number of copies.

    Attributes:
        first: First hash.
        end: Last hash + 1.
        copies: Cached copies of the blocks, the one cached first in front.
    """

    __slots__ = ("copies", "end", "first")

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end
        self.copies: list[_Copy] = []


class _Copy:
    """Cached blocks with the hashes of a span, one block each.

    Attributes:
        span: The span of hashes.
        ref_count: Requests that reference the blocks.
        previous: Copy before it in the free queue, evicted earlier.
        next: Copy after it in the free queue, evicted later.
    """

    __slots__ = ("next", "previous", "ref_count", "span")

    def __init__(self, span: _Span, ref_count: int) -> None:
        self.span = span
        self.ref_count = ref_count
        self.previous = self.next = self


class BlockHashCache:
    """Cached KV blocks of a replica: references and order of eviction.

    Cached prefixes have no gaps: a block is cached after those before it in its sequence, and evicted before them.

    Attributes:
        num_evictable: Cached blocks that no request references.

    Source: the design of vLLM V1's prefix cache, https://docs.vllm.ai/en/latest/design/prefix_caching.html.
    """

    __slots__ = (
        "_block_hashes",
        "_free_queue",
        "_num_cached",
        "_referenced",
        "_runs",
        "_spans",
        "num_evictable",
    )

    def __init__(self, block_hashes: BlockHashes) -> None:
        """Start empty.

        Args:
            block_hashes: Block hashes of all requests.
        """
        self.num_evictable = 0
        self._block_hashes = block_hashes
        self._spans: dict[int, _Span] = {}
        # Sentinel of the circular free queue: `next` is evicted first, `previous` last.
        self._free_queue = _Copy(_Span(0, 0), 0)
        # By running request: its cached blocks, in the order of the sequence, and how many they are.
        self._referenced: dict[int, list[_Copy]] = {}
        self._num_cached: dict[int, int] = {}
        self._runs: dict[int, list[tuple[int, int]]] = {}

    @property
    def num_cached_hashes(self) -> int:
        """Distinct hashes of cached blocks."""
        return sum(span.end - span.first for span in self._spans.values())

    def match(self, request: int, max_blocks: int) -> tuple[int, int]:
        """Find the longest cached prefix of a request.

        Args:
            request: Index of the request.
            max_blocks: Maximum blocks to match.

        Returns:
            Cached blocks at the beginning of the request, and how many of them are evictable.
        """
        num_matched = num_evictable = 0
        for span, end in self._cached_spans(request, max_blocks):
            num_matched += end - span.first
            if span.copies[0].ref_count == 0:
                num_evictable += end - span.first
        return num_matched, num_evictable

    def _cached_spans(self, request: int, max_blocks: int) -> Iterator[tuple[_Span, int]]:
        """Yield the cached spans of a prefix.

        Each comes with the end of the part that belongs to the prefix.
        """
        spans = self._spans
        for first, length in self._runs_of(request):
            end = first + min(length, max_blocks)
            max_blocks -= length
            while first < end:
                span = spans.get(first)
                if span is None:
                    return
                first = min(span.end, end)
                yield span, first

    def acquire(self, request: int, num_blocks: int) -> int:
        """Reference the first blocks of a request, all of which are cached.

        Returns:
            How many of them were evictable.
        """
        num_evictable = 0
        copies = []
        for span, end in list(self._cached_spans(request, num_blocks)):
            if end < span.end:
                self._split(span, end)
            copy = span.copies[0]
            if copy.ref_count == 0:
                self._remove_from_queue(copy)
                num_evictable += span.end - span.first
            copy.ref_count += 1
            copies.append(copy)
        self._referenced[request] = copies
        self._num_cached[request] = num_blocks
        self.num_evictable -= num_evictable
        return num_evictable

    def cache_blocks(self, request: int, num_blocks: int) -> None:
        """Cache the first blocks of a running request.

        Blocks already cached stay as they are.
        """
        skip = self._num_cached[request]
        if num_blocks <= skip:
            return
        self._num_cached[request] = num_blocks
        for first, length in self._runs_of(request):
            if skip < length:
                self._cache_hashes(request, first + max(skip, 0), first + min(length, num_blocks))
            skip -= length
            num_blocks -= length
            if num_blocks <= 0:
                return

    def _cache_hashes(self, request: int, first: int, end: int) -> None:
        copies = self._referenced[request]
        while first < end:
            span = self._spans.get(first)
            if span is None:  # no hash from here on is cached
                last = copies[-1] if copies else None
                if last is not None and last.span.end == first and last.ref_count == len(last.span.copies) == 1:
                    last.span.end = end
                    return
                span = self._spans[first] = _Span(first, end)
            elif span.end > end:
                self._split(span, end)
            copy = _Copy(span, 1)
            span.copies.append(copy)
            copies.append(copy)
            first = span.end

    def release(self, request: int) -> int:
        """Drop the references of a request.

        The end of its sequence is evicted first.

        Returns:
            Cached blocks that became evictable.
        """
        num_evictable = 0
        for copy in reversed(self._referenced.pop(request)):
            copy.ref_count -= 1
            if copy.ref_count == 0:
                self._insert_before(self._free_queue, copy)
                num_evictable += copy.span.end - copy.span.first
        del self._num_cached[request]
        self.num_evictable += num_evictable
        return num_evictable

    def referenced_spans(self, request: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the cached blocks of a running request.

        Yields:
            (id of the copy, first hash, end, ref_count) of consecutive blocks.

        Raises:
            RuntimeError: Their hashes are not those of the request.
        """
        copies = iter(self._referenced[request])
        left = self._num_cached[request]
        for first, length in self._runs_of(request):
            end = first + min(length, left)
            left -= length
            while first < end:
                copy = next(copies)
                if copy.span.first != first or copy.span.end > end:
                    raise RuntimeError(
                        f"request {request} references hashes {copy.span.first} to {copy.span.end}, not its own"
                    )
                yield id(copy), first, copy.span.end, copy.ref_count
                first = copy.span.end

    def num_cached(self, request: int) -> int:
        """Return the number of cached blocks of a running request."""
        return self._num_cached[request]

    def is_shared(self, request: int, block: int) -> bool:
        """Whether other requests have the same block, counted from 0."""
        return bool(self._block_hashes.num_shared[request] > block)

    def forget(self, request: int) -> None:
        """Drop the block hashes kept for a request that has finished."""
        self._runs.pop(request, None)

    def evict_to(self, num_blocks: int) -> int:
        """Evict until at most `num_blocks` blocks are evictable.

        Returns:
            Number of evicted blocks.
        """
        before = self.num_evictable
        while (excess := self.num_evictable - num_blocks) > 0:
            copy = self._free_queue.next
            span = copy.span
            size = span.end - span.first
            if size > excess:
                if len(span.copies) == 1:
                    span.end -= excess
                    self.num_evictable -= excess
                    break
                self._split(span, span.end - excess)
                continue
            self._remove_from_queue(copy)
            span.copies.remove(copy)
            if not span.copies:
                del self._spans[span.first]
            self.num_evictable -= size
        return before - self.num_evictable

    def clear(self) -> None:
        """Drop all blocks and references."""
        self.num_evictable = 0
        self._spans.clear()
        self._referenced.clear()
        self._num_cached.clear()
        self._runs.clear()
        self._free_queue = _Copy(_Span(0, 0), 0)

    def _runs_of(self, request: int) -> list[tuple[int, int]]:
        runs = self._runs.get(request)
        if runs is None:
            runs = self._runs[request] = self._block_hashes.runs_of(request)
        return runs

    def _split(self, span: _Span, at: int) -> None:
        """Split a span in two.

        Of evictable copies, the rear part is evicted first.
        """
        rear = self._spans[at] = _Span(at, span.end)
        span.end = at
        for copy in span.copies:
            rear_copy = _Copy(rear, copy.ref_count)
            rear.copies.append(rear_copy)
            if copy.ref_count == 0:
                self._insert_before(copy, rear_copy)
                continue
            for copies in self._referenced.values():
                if copy in copies:
                    copies.insert(copies.index(copy) + 1, rear_copy)

    @staticmethod
    def _insert_before(successor: _Copy, copy: _Copy) -> None:
        previous = successor.previous
        copy.previous, copy.next = previous, successor
        previous.next = successor.previous = copy

    @staticmethod
    def _remove_from_queue(copy: _Copy) -> None:
        copy.previous.next, copy.next.previous = copy.next, copy.previous
