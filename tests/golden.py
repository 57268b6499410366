"""Recorded schedules of real engines: how a case is replayed, and how its files are read."""

import csv
import gzip
from pathlib import Path
from typing import Any


def overrides_of(case: dict[str, Any], requests: Path) -> list[str]:
    """The command line that replays a recorded case, but for the options of its scheduler."""
    return [
        f"scheduler={case['scheduler']}",
        f"scheduler.max_num_seqs={case['max_num_seqs']}",
        "trace=csv",
        f"trace.path='{requests}'",
        "trace.num_requests=null",
        "arrival=trace",
        "iteration_time=affine",
        *(f"iteration_time.{name}={value}" for name, value in case["cost"].items()),
        f"model.max_model_len={case['max_model_len']}",
        f"parallel.pp={case['pp']}",
        f"kv_cache.num_blocks={case['num_gpu_blocks']}",
        f"kv_cache.block_size={case['block_size']}",
        "output.batches=true",
    ]


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, plain or gzip."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        return list(csv.DictReader(file))
