"""Trace files that `TraceFile` reads back."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from traces.shared.atomic_files import replacing
from traces.trace import PrefixBlocks, Trace

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
_CHUNK_ROWS = 1 << 16


def save(trace: Trace, path: Path) -> None:
    """Write a trace with the simulator's own columns.

    The suffix of the path sets the format.

    Raises:
        ValueError: The suffix is not in SUFFIXES.
        OSError: The file cannot be written; no partial file is left.
    """
    suffix = next((known for known in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(known)), None)
    if suffix is None:
        raise ValueError(f"{path.name} must end in one of {', '.join(SUFFIXES)}")
    with replacing(path) as partial, open(partial, "wb") as file:
        if suffix.endswith(".gz"):
            # No name and no time in the header: the same trace gives the same bytes.
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
                _write(trace, compressed, suffix.removesuffix(".gz"))  # type: ignore[arg-type]
        else:
            _write(trace, file, suffix)


def _write(trace: Trace, file: BinaryIO, suffix: str) -> None:
    if suffix == ".parquet":
        parts = _tables(trace, lists=True)
        first = next(parts)
        with pa.parquet.ParquetWriter(pa.PythonFile(file, mode="w"), first.schema) as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part)
    elif suffix == ".csv":
        for number, part in enumerate(_tables(trace, lists=False)):
            options = pa.csv.WriteOptions(include_header=number == 0, quoting_style="needed")
            pa.csv.write_csv(part, pa.PythonFile(file, mode="w"), options)
    else:
        for part in _tables(trace, lists=True):
            for row in part.to_pylist():
                # Every line has all keys, also the first, from which the reader takes them.
                file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


def _tables(trace: Trace, lists: bool) -> Iterator[pa.Table]:
    """Yield the rows in chunks, with block ids as lists or text."""
    for start in range(0, len(trace), _CHUNK_ROWS):
        rows = np.arange(start, min(start + _CHUNK_ROWS, len(trace)))
        part = trace.take(rows)
        yield pa.table({name: values for name, values in _columns(part, lists) if values is not None})


def _columns(part: Trace, lists: bool) -> Iterator[tuple[str, Any]]:
    yield (
        "request_id",
        None if part.request_id is None else pa.array(list(map(str, part.request_id.tolist())), pa.string()),
    )
    yield "arrival_s", _with_nulls(part.arrival_s)
    yield "think_s", _with_nulls(part.think_s)
    yield "prompt_tokens", pa.array(part.prompt_tokens)
    yield "output_tokens", pa.array(part.output_tokens)
    yield "session", None if part.session is None else pa.array(part.session, mask=part.session < 0)
    if part.client is not None:
        yield "client", pa.array([part.clients[client].name for client in part.client.tolist()], pa.string())
    yield "priority", None if part.priority is None else pa.array(part.priority)
    if part.prefix is not None:
        yield "block_ids", _lists(part.prefix) if lists else pa.array(_ranges(part.prefix), pa.string())
        if part.prefix.block_tokens is not None:
            yield "block_tokens", pa.array(np.full(len(part), part.prefix.block_tokens))


def _with_nulls(times_s: Any) -> Any:
    return None if times_s is None else pa.array(times_s, mask=np.isnan(times_s))


def _lists(prefix: PrefixBlocks) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(prefix.starts, pa.int64()), pa.array(prefix.ids))


def _ranges(prefix: PrefixBlocks) -> list[str]:
    """Return the blocks of each request as text: `first-last;single`."""
    lines = []
    for request in range(len(prefix)):
        ids = prefix.of(request)
        runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
        lines.append(";".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs if len(run)))
    return lines
