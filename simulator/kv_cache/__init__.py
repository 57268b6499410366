"""Prefix caching: block hashes, and the KV blocks cached under them."""

from simulator.kv_cache.block_hash_cache import BlockHashCache
from simulator.kv_cache.block_hashes import BlockHashes

__all__ = [
    "BlockHashCache",
    "BlockHashes",
]
