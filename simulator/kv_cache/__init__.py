"""Prefix caching of KV blocks: block hashes, and the cache that finds blocks by their hashes."""

from simulator.kv_cache.block_hash_cache import BlockHashCache
from simulator.kv_cache.block_hashes import BlockHashes

__all__ = [
    "BlockHashCache",
    "BlockHashes",
]
