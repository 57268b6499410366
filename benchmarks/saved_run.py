"""Size and CPU time of saving and loading a run, by format.

    python -m benchmarks.saved_run [requests=100000]

Simulates sharegpt at 90% of saturation, about eleven iterations per request. The formats hold the arrays of log.npz.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from simulator.config import load_config
from simulator.output import load_result
from simulator.output.parquet_tables import tables_of, write_table
from simulator.output.saved_run import LOG, write_log
from simulator.results import Result
from simulator.simulation import simulate

REPEATS = 3
Arrays = Mapping[str, NDArray[Any]]
Task = Callable[[Path], Any]


def main() -> None:
    """Run the command line."""
    options = {"requests": "100000"} | dict(argument.split("=", 1) for argument in sys.argv[1:])
    result = simulate(**load_config("trace=sharegpt", f"trace.num_requests={options['requests']}", "arrival.qps=1.85"))
    print(f"{len(result.status):,} requests, {result.summary['num_iterations']:,} iterations\n")
    print("| file | MB | write, CPU s | load, CPU s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / LOG
        _print_row("log.npz", log, lambda path: write_log(result, path), lambda path: load_result(path.parent))
        with np.load(log) as file:
            arrays = {name: file[name] for name in file.files}
        for name, write, load in (*_formats(arrays), *_tables(result)):
            _print_row(name, Path(folder) / name, write, load)


def _formats(arrays: Arrays) -> list[tuple[str, Task, Task]]:
    """Return name, writer and loader of each format of the arrays."""
    table = pa.table({name: pa.array([array.ravel()]) for name, array in arrays.items()})  # one row of lists

    def write_arrow(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    def load_npz(path: Path) -> Arrays:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}

    def arrays_of(loaded: Any) -> Arrays:
        return {name: loaded[name].combine_chunks().values.to_numpy() for name in loaded.column_names}

    return [
        ("compressed.npz", lambda path: np.savez_compressed(path, **arrays), load_npz),
        (
            "zstd.parquet",
            lambda path: pq.write_table(table, path, compression="zstd"),
            lambda path: arrays_of(pq.read_table(path)),
        ),
        ("plain.arrow", write_arrow, lambda path: arrays_of(pa.ipc.open_file(path.read_bytes()).read_all())),
    ]


def _tables(result: Result) -> list[tuple[str, Task, Task]]:
    """Return name, writer and loader of each Parquet table."""
    return [
        (f"{name}.parquet", lambda path, index=index: write_table([*tables_of(result)][index], path), pq.read_table)
        for index, name in enumerate(("requests", "iterations"))
    ]


def _print_row(name: str, path: Path, write: Task, load: Task) -> None:
    write_s, load_s = _shortest_s(write, path), _shortest_s(load, path)
    print(f"| {name} | {path.stat().st_size / 1e6:.1f} | {write_s:.2f} | {load_s:.2f} |")


def _shortest_s(task: Task, path: Path) -> float:
    times_s = []
    for _ in range(REPEATS):
        start_s = time.process_time()
        task(path)
        times_s.append(time.process_time() - start_s)
    return min(times_s)


if __name__ == "__main__":
    main()
