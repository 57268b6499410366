"""Workloads: readers and generators of request traces."""

from traces.trace import Trace

__all__ = ["Trace"]
