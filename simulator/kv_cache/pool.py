"""KV blocks of one replica."""

from collections.abc import Sequence

from simulator.kv_cache.groups import LayerGroup
from simulator.kv_cache.prefix_cache import PrefixCache


class KVPool:
    """KV blocks of a replica, free or allocated to requests.

    The groups of layers take their blocks from the same pool. A block that no request references is free, even if it
    is still cached; it is evicted when free blocks run short.

    Attributes:
        num_blocks: KV blocks in total.
        free_blocks: KV blocks that no request references.
        block_size: Tokens per KV block.
        groups: Groups of layers, each with a block table of its own.
        prefix: Prefix cache; None: no prefix caching.
    """

    __slots__ = (
        "_allocated",
        "_num_evicted",
        "block_size",
        "free_blocks",
        "groups",
        "num_blocks",
        "prefix",
    )

    def __init__(self, num_blocks: int, groups: Sequence[LayerGroup], prefix: PrefixCache | None = None) -> None:
        """Start with all blocks free.

        Args:
            num_blocks: KV blocks in total.
            groups: Groups of layers, all with the same block size.
            prefix: Empty prefix cache; None: no prefix caching.
        """
        self.num_blocks = num_blocks
        self.groups = tuple(groups)
        (self.block_size,) = {group.block_size for group in groups}
        self.prefix = prefix
        self.free_blocks = num_blocks
        self._num_evicted = 0
        # Requests whose number of blocks does not follow from their context.
        self._allocated: dict[int, int] = {}

    def blocks_for(self, num_tokens: int) -> int:
        """Return the KV blocks of the first `num_tokens` tokens of a sequence."""
        return -(-num_tokens // self.block_size) * len(self.groups)

    def allocated(self, request: int, context_tokens: int) -> int:
        """Return the KV blocks of a running request with `context_tokens` tokens."""
        num_blocks = self._allocated.get(request)
        return self.blocks_for(context_tokens) if num_blocks is None else num_blocks

    def match(self, request: int, max_tokens: int) -> tuple[int, int]:
        """Find the cached prefix of a request, at most `max_tokens` tokens long.

        Returns:
            Tokens of the prefix, and how many of its blocks count as free.
        """
        if self.prefix is None:
            return 0, 0
        num_blocks, num_evictable = self.prefix.match(request, max_tokens // self.block_size)
        return num_blocks * self.block_size, num_evictable

    def acquire(self, request: int, num_tokens: int) -> int:
        """Reference the cached prefix of a request that is admitted.

        There is a prefix cache.

        Returns:
            How many of its blocks other requests reference, too.
        """
        assert self.prefix is not None
        num_cached = num_tokens // self.block_size
        num_evictable = self.prefix.acquire(request, num_cached)
        self.free_blocks -= num_evictable
        self._allocated[request] = num_cached
        return num_cached - num_evictable

    def extend(self, request: int, num_tokens: int) -> bool:
        """Allocate to a prefill the blocks of its first `num_tokens` tokens.

        Returns:
            Whether enough were free; False: none is taken.
        """
        num_blocks = self._allocated.get(request, 0)
        num_needed = self.blocks_for(num_tokens)
        if num_needed <= num_blocks:
            return True
        if num_needed - num_blocks > self.free_blocks:
            return False
        self.free_blocks -= num_needed - num_blocks
        self._allocated[request] = num_needed
        return True

    def follow_context(self, request: int, num_tokens: int) -> None:
        """Free the blocks of a request beyond its `num_tokens` tokens.

        From now on its blocks follow from its context.
        """
        self.free_blocks += self._allocated.pop(request) - self.blocks_for(num_tokens)

    def cache(self, request: int, num_tokens: int) -> None:
        """Cache the full blocks of a request's first `num_tokens` tokens."""
        if self.prefix is not None:
            self.prefix.cache_blocks(request, num_tokens // self.block_size)

    def release(self, request: int, context_tokens: int, computed_tokens: int) -> None:
        """Free the blocks of a request.

        Full ones stay cached until they are evicted.

        Args:
            request: The request.
            context_tokens: Tokens for which it has blocks.
            computed_tokens: Tokens of it that are computed or being computed.
        """
        num_blocks = self._allocated.pop(request, None)
        if num_blocks is None:
            num_blocks = self.blocks_for(context_tokens)
        if self.prefix is not None:
            self.evict()
            self.prefix.cache_blocks(request, computed_tokens // self.block_size)
            num_blocks -= self.prefix.num_cached(request)
            num_blocks += self.prefix.release(request)
        self.free_blocks += num_blocks

    def evict(self) -> None:
        """Evict the cached blocks that have been taken."""
        if self.prefix is not None and self.prefix.num_evictable > self.free_blocks:
            self._num_evicted += self.prefix.evict_to(self.free_blocks)

    def pop_evicted(self) -> int:
        """Return the number of blocks evicted since the last call."""
        num_evicted, self._num_evicted = self._num_evicted, 0
        return num_evicted

    def clear(self) -> None:
        """Free all blocks and drop cached ones."""
        self.free_blocks = self.num_blocks
        self._allocated.clear()
        if self.prefix is not None:
            self.prefix.clear()
