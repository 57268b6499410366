"""Readers of request files."""

from traces.readers.collector import TAKES_ALL
from traces.readers.rows import OnError
from traces.readers.trace_file import TraceFile

__all__ = [
    "TAKES_ALL",
    "OnError",
    "TraceFile",
]
