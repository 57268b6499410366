"""Protocol of a prefix cache."""

from collections.abc import Iterator
from typing import Protocol


class PrefixCache(Protocol):
    """Cached KV blocks of a replica: references and order of eviction.

    Attributes:
        num_evictable: Cached blocks that no request references.
    """

    num_evictable: int

    def match(self, request: int, max_blocks: int) -> tuple[int, int]:
        """Return the cached leading blocks, and how many are evictable."""
        ...

    def acquire(self, request: int, num_blocks: int) -> int:
        """Reference the first blocks; return how many were evictable."""
        ...

    def cache_blocks(self, request: int, num_blocks: int) -> None:
        """Cache the first blocks of a running request."""
        ...

    def num_cached(self, request: int) -> int:
        """Return the number of cached blocks of a running request."""
        ...

    def is_shared(self, request: int, block: int) -> bool:
        """Whether other requests have the same block, counted from 0."""
        ...

    def release(self, request: int) -> int:
        """Drop the references of a request; return how many blocks became evictable."""
        ...

    def forget(self, request: int) -> None:
        """Drop what is kept about a request that has finished."""
        ...

    def referenced_spans(self, request: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (id, first hash, end, ref_count) of a request's cached blocks."""
        ...

    def evict_to(self, num_blocks: int) -> int:
        """Evict until at most `num_blocks` are evictable; return how many were."""
        ...

    def clear(self) -> None:
        """Drop all blocks and references."""
        ...
