"""KV blocks by what they hold: block hashes, and the cache that finds prefixes by them."""

from simulator.kv_cache.block_hash_cache import PrefixCache
from simulator.kv_cache.block_hashes import PrefixLabels

__all__ = [
    "PrefixCache",
    "PrefixLabels",
]
