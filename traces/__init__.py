"""Workloads: readers and generators of request traces."""

import traces.shared.interruption  # noqa: F401  # before anything that takes long to import

# isort: split
from traces.trace import Client, PrefixBlocks, Trace

__all__ = ["Client", "PrefixBlocks", "Trace"]
