"""Workloads: readers and generators of request traces."""

from traces.trace import Client, PrefixBlocks, Trace

__all__ = ["Client", "PrefixBlocks", "Trace"]
