"""Time and memory of reading a large file of requests: `python -m benchmarks.large_traces`.

Each file is read by `python -m traces convert`'s reader in a process of its own; memory is the most that it held.
"""

import argparse
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from traces.file import TraceFile

_ROWS_AT_A_TIME = 500_000
FORMATS = ("plain.csv", "azure.csv", "azure.csv.gz", "plain.parquet", "mooncake.jsonl")


def main() -> None:
    """Write the files, read them, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        _read(options.read)
        return
    print(f"{options.rows:,} rows\n\n| file | MB | s | GB at most |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            path = Path(folder) / name
            _write(path, options.rows)
            command = [sys.executable, "-m", "benchmarks.large_traces", "--read", str(path)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            print(f"| {name} | {path.stat().st_size / 1e6:,.0f} | {found[0]} | {found[1]} |", flush=True)
            path.unlink()


def _read(path: Path) -> None:
    start_s = time.perf_counter()
    trace = TraceFile(str(path)).load(np.random.default_rng(0))
    seconds = time.perf_counter() - start_s
    assert trace.arrival_s is not None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{seconds:.1f} {kilobytes / 1e6:.2f} {len(trace)}")


def _write(path: Path, rows: int) -> None:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet

        writer = None
        for arrival_s, prompt, output in _parts(rows):
            table = pa.table({"arrival_s": arrival_s, "prompt_tokens": prompt, "output_tokens": output})
            writer = writer or pa.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
        return
    with gzip.open(path, "wt", compresslevel=1) if path.suffix == ".gz" else open(path, "w") as file:
        for number, part in enumerate(_parts(rows)):
            file.write("\n".join(_lines(path.name, number, *part)) + "\n")


def _parts(rows: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng, start_s = np.random.default_rng(0), 0.0
    for first in range(0, rows, _ROWS_AT_A_TIME):
        count = min(_ROWS_AT_A_TIME, rows - first)
        arrival_s = start_s + np.cumsum(rng.exponential(0.06, count))
        start_s = float(arrival_s[-1])
        yield arrival_s, rng.integers(1, 8000, count), rng.integers(1, 1000, count)


def _lines(name: str, part: int, arrival_s: np.ndarray, prompt: np.ndarray, output: np.ndarray) -> Iterator[str]:
    lengths = list(zip(prompt.tolist(), output.tolist(), strict=True))
    if name == "mooncake.jsonl":
        for milliseconds, (one, two) in zip((arrival_s * 1e3).astype(int).tolist(), lengths, strict=True):
            blocks = list(range(-(-one // 512)))
            times_and_lengths = f'"timestamp": {milliseconds}, "input_length": {one}, "output_length": {two}'
            yield f'{{{times_and_lengths}, "hash_ids": {blocks}}}'
        return
    if name.startswith("plain"):
        if part == 0:
            yield "arrival_s,prompt_tokens,output_tokens"
        for second, (one, two) in zip(arrival_s.tolist(), lengths, strict=True):
            yield f"{second},{one},{two}"
        return
    if part == 0:
        yield "TIMESTAMP,ContextTokens,GeneratedTokens"
    moments = np.datetime64("2024-05-10T00:00:00.000000") + (arrival_s * 1e6).astype("timedelta64[us]")
    for moment, (one, two) in zip(np.datetime_as_string(moments, unit="us").tolist(), lengths, strict=True):
        yield f"{moment.replace('T', ' ')}+00:00,{one},{two}"


if __name__ == "__main__":
    main()
