"""KV blocks by what they hold: block hashes, and the cache that finds prefixes by them."""
