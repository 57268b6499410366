"""Time and memory of reading large trace files: `python -m benchmarks.large_traces`.

A new process reads each file with the reader of `python -m traces convert`; memory is its peak.
"""

import argparse
import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from traces.readers import TraceFile

_CHUNK_ROWS = 500_000
# Header and row template of each file.
_LAYOUTS = {
    "plain.csv": ("arrival_s,prompt_tokens,output_tokens", "{second},{prompt},{output}"),
    "numbered.csv": (
        "request_id,session,arrival_s,prompt_tokens,output_tokens",
        "{number},{prompt},{second},{prompt},{output}",
    ),
    "named.csv": (
        "request_id,session,arrival_s,prompt_tokens,output_tokens",
        "request-{number},session-{prompt},{second},{prompt},{output}",
    ),
    "azure.csv": ("TIMESTAMP,ContextTokens,GeneratedTokens", "{moment},{prompt},{output}"),
    "mooncake.jsonl": (
        "",
        '{{"timestamp": {millisecond}, "input_length": {prompt}, "output_length": {output}, "hash_ids": {blocks}}}',
    ),
}
FORMATS = (
    "plain.csv",
    "plain.parquet",
    "azure.csv",
    "azure.csv.gz",
    "mooncake.jsonl",
    "numbered.csv",
    "named.csv",
)


def main() -> None:
    """Write the files, read them, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        _read(options.read)
        return
    print(f"{options.rows:,} rows\n\n| file | MB | s | peak GB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            path = Path(folder) / name
            _write(path, options.rows)
            command = [sys.executable, "-m", "benchmarks.large_traces", "--read", str(path)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            print(f"| {name} | {path.stat().st_size / 1e6:,.0f} | {output[0]} | {output[1]} |", flush=True)
            path.unlink()


def _read(path: Path) -> None:
    start_s = time.perf_counter()
    trace = TraceFile(str(path)).load(np.random.default_rng(0))
    seconds = time.perf_counter() - start_s
    assert trace.arrival_s is not None
    # Peak of this process alone: getrusage starts with the size of the parent process.
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    print(f"{seconds:.1f} {int(peak.split()[1]) * 1024 / 1e9:.2f} {len(trace)}")


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
    for first in range(0, rows, _CHUNK_ROWS):
        count = min(_CHUNK_ROWS, rows - first)
        arrival_s = start_s + np.cumsum(rng.exponential(0.06, count))
        start_s = float(arrival_s[-1])
        yield arrival_s, rng.integers(1, 8000, count), rng.integers(1, 1000, count)


def _lines(name: str, part: int, arrival_s: np.ndarray, prompt: np.ndarray, output: np.ndarray) -> Iterator[str]:
    header, *fields = _LAYOUTS[name.removesuffix(".gz")]
    if part == 0 and header:
        yield header
    moments = np.datetime64("2024-05-10T00:00:00.000000") + (arrival_s * 1e6).astype("timedelta64[us]")
    texts = {
        "number": [str(part * _CHUNK_ROWS + row) for row in range(len(prompt))],
        "second": list(map(str, arrival_s.tolist())),
        "moment": [
            f"{moment.replace('T', ' ')}+00:00" for moment in np.datetime_as_string(moments, unit="us").tolist()
        ],
        "millisecond": list(map(str, (arrival_s * 1e3).astype(int).tolist())),
        "prompt": list(map(str, prompt.tolist())),
        "output": list(map(str, output.tolist())),
        "blocks": [str(list(range(-(-num_tokens // 512)))) for num_tokens in prompt.tolist()],
    }
    (layout,) = fields
    names = [name for name in texts if f"{{{name}}}" in layout]
    for row in zip(*(texts[name] for name in names), strict=True):
        yield layout.format(**dict(zip(names, row, strict=True)))


if __name__ == "__main__":
    main()
