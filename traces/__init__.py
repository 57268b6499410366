"""Workloads: readers and generators of request traces."""

import traces.shared.interruption  # noqa: F401  # before anything that takes long to import

# isort: split
from traces.base import Arrivals, Source
from traces.trace import Client, PrefixBlocks, Trace
from traces.workload import Workload

__all__ = ["Arrivals", "Client", "PrefixBlocks", "Source", "Trace", "Workload"]
