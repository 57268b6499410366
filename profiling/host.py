"""Host time of an engine per iteration: straight lines through its measured parts."""

from pathlib import Path

import numpy as np
import pandas as pd

from profiling.segments import line
from profiling.tables import Header, TableError, medians, read_table

# The parts that the GPU waits for. A worker is a process of its own, also if it is the only one.
PARTS = ("schedule", "prepare_inputs", "sampler", "process_outputs", "worker_messages")


def host_lines(folder: Path) -> pd.DataFrame:
    """Fit host time over the sequences of a batch: one row for a single GPU and one for several.

    Returns:
        Columns device, gpus, base_s, per_seq_s, median and p95 (absolute error, per cent), num_points.

    Raises:
        TableError: The folder has no host table.
    """
    table = read_table(folder, "host")
    if not len(table):
        raise TableError(f"{folder} has no host table")
    keys = ["model", "tp", "batch"]
    rows = []
    for several in (False, True):
        inside = table[(table["tp"] > 1) == several]
        parts = medians(inside[inside["operator"].isin(PARTS)], [*keys, "operator"])
        points = parts.groupby(keys, as_index=False)["seconds"].sum()
        batch, seconds = points["batch"].to_numpy(float), points["seconds"].to_numpy()
        base_s, per_seq_s = line(batch, seconds)
        error = np.abs((base_s + per_seq_s * batch) / seconds - 1) * 100
        rows.append(
            {
                "device": Header.read(folder).device,
                "gpus": "several" if several else "one",
                "base_s": base_s,
                "per_seq_s": per_seq_s,
                "median": np.median(error),
                "p95": np.percentile(error, 95),
                "num_points": len(points),
            }
        )
    return pd.DataFrame(rows)
