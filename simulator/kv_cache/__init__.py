"""KV blocks by what they hold: block hashes, and the cache that finds prefixes by them."""

from simulator.kv_cache.block_hash_cache import BlockHashCache
from simulator.kv_cache.block_hashes import BlockHashes

__all__ = [
    "BlockHashCache",
    "BlockHashes",
]
