"""Check of the references to cached KV blocks."""

from collections import Counter
from collections.abc import Iterable

from simulator.invariants.errors import InvariantError
from simulator.kv_cache import PrefixCache


def num_extra_references(prefix: PrefixCache, running: Iterable[int]) -> int:
    """Check the `ref_count` of cached KV blocks.

    Returns:
        References to the blocks, beyond the first of each block.
    """
    num_references: Counter[tuple[int, int, int]] = Counter()
    sizes: dict[tuple[int, int, int], int] = {}
    for request in running:
        for copy, first, end, ref_count in prefix.referenced_spans(request):
            num_references[copy, first, ref_count] += 1
            sizes[copy, first, ref_count] = end - first
    for (_, first, ref_count), count in num_references.items():
        if count != ref_count:
            raise InvariantError(
                f"{count} requests reference the KV blocks from hash {first}; ref_count is {ref_count}"
            )
    return sum((count - 1) * sizes[span] for span, count in num_references.items())
