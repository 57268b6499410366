"""Readers of request files: rows as they stand in the file, and what is wrong with them."""

from traces.readers.rows import OnError
from traces.readers.trace_file import TraceFile

__all__ = [
    "OnError",
    "TraceFile",
]
