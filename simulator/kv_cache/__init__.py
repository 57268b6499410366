"""KV blocks of a replica, and prefix caching."""

from simulator.kv_cache.block_hash_cache import BlockHashCache
from simulator.kv_cache.block_hashes import BlockHashes
from simulator.kv_cache.groups import LayerGroup
from simulator.kv_cache.pool import KVPool
from simulator.kv_cache.prefix_cache import PrefixCache

__all__ = [
    "BlockHashCache",
    "BlockHashes",
    "KVPool",
    "LayerGroup",
    "PrefixCache",
]
