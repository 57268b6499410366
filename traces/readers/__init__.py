"""Readers of request files."""

from traces.readers.rows import OnError
from traces.readers.trace_file import TraceFile

__all__ = [
    "OnError",
    "TraceFile",
]
