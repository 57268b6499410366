"""Host time per engine iteration, fitted by lines over the batch size."""

from pathlib import Path

import numpy as np
import pandas as pd

from profiling.fit.piecewise_lines import fit_line
from profiling.tables import Header, medians, read_table
from simulator.config import choices, component
from simulator.model import HostTime

# Parts that the GPU waits for; their sum is fitted. Workers are separate processes, even a single one.
FITTED = ("base_s", "per_seq_s", "launch_per_layer_s", "launch_graph_s")
PARTS = ("schedule", "prepare_inputs", "sampler", "synchronize", "process_outputs", "worker_messages")


def host_lines(folder: Path) -> pd.DataFrame:
    """Fit host time over the sequences of a batch.

    One GPU has a row, several GPUs have another.

    Returns:
        Columns device, gpus, base_s, per_seq_s, launch_per_layer_s and launch_graph_s (0: not measured), median and
        p95 (absolute error of the line, per cent), num_points.

    Raises:
        ValueError: The folder has no host table.
    """
    table = read_table(folder, "host")
    if not len(table):
        raise ValueError(f"{folder} has no host table")
    keys = ["model", "tp", "batch"]
    rows = []
    for is_several in (False, True):
        inside = table[(table["tp"] > 1) == is_several]
        parts = medians(inside[inside["operator"].isin(PARTS)], [*keys, "operator"])
        points = parts.groupby(keys, as_index=False)["seconds"].sum()
        if not len(points):
            continue
        batch, seconds = points["batch"].to_numpy(float), points["seconds"].to_numpy()
        base_s, per_seq_s = fit_line(batch, seconds)
        error = np.abs((base_s + per_seq_s * batch) / seconds - 1) * 100
        rows.append(
            {
                "device": Header.read(folder).device,
                "gpus": "several" if is_several else "one",
                "base_s": base_s,
                "per_seq_s": per_seq_s,
                "launch_per_layer_s": _launch_per_layer(inside),
                "launch_graph_s": _median(inside, "launch_graph"),
                "median": np.median(error),
                "p95": np.percentile(error, 95),
                "num_points": len(points),
            }
        )
    return pd.DataFrame(rows)


def host_time(folder: Path) -> HostTime:
    """Fit the host time of one GPU to a folder of tables.

    Raises:
        ValueError: The folder has no host table of one GPU.
    """
    rows = [row for row in host_lines(folder).to_dict("records") if row["gpus"] == "one"]
    if not rows:
        raise ValueError(f"{folder} has no host time of one GPU")
    return HostTime(**{name: float(rows[0][name]) for name in FITTED})


def _launch_per_layer(rows: pd.DataFrame) -> float:
    """Return the median seconds to launch a layer's kernels.

    Only models of configs/model count; 0 without rows.
    """
    launches = rows[(rows["operator"] == "launch_kernels") & rows["model"].isin(choices("model"))]
    layers = launches["model"].map(lambda name: component("model", name).num_layers)
    return float((launches["seconds"] / layers).median()) if len(launches) else 0.0


def _median(rows: pd.DataFrame, operator: str) -> float:
    seconds = rows.loc[rows["operator"] == operator, "seconds"]
    return float(seconds.median()) if len(seconds) else 0.0
