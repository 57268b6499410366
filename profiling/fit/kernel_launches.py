"""Time to launch a layer from the host.

Decodes that are no faster on eight GPUs than on four are launch-bound.
"""

from pathlib import Path

import pandas as pd

from profiling.tables import read_columns
from simulator.config import load_config

MS = 1e-3
LAYERS = 80
# Kernels are shortest with TP8, so launches dominate. TP4 is held out.
FITTED_TP, CHECKED_TP = 8, 4
MACHINES = {"a100-80gb": "a100_80gb_sxm", "h100-80gb": "h100_sxm"}


def launch_times(path: Path) -> pd.DataFrame:
    """Fit the launch time of a layer to single-sequence decodes.

    The decodes are of Llama2-70B in Splitwise's `perf_model.csv`. The launch time is the iteration time minus the host
    time of the engine, divided by the number of layers.

    Returns:
        Columns host, launch_per_layer_s, num_points and, on held-out decodes, median and worst (error of the iteration,
        per cent).

    Raises:
        ValueError: The file cannot be read.
    """
    keys = ["hardware", "tensor_parallel", "batch_size", "prompt_size"]
    table = read_columns(path, *keys, "model", "token_time")
    table = table[(table["model"] == "llama2-70b") & (table["batch_size"] == 1)]
    points = table.groupby(keys, as_index=False)["token_time"].median()
    rows = []
    for hardware, device in MACHINES.items():
        deployment = load_config("model=llama2_70b", f"device={device}", f"parallel.tp={FITTED_TP}")["deployment"]
        base_s, per_seq_s = deployment.engine.host_time(deployment.device).line(FITTED_TP)
        host_s = base_s + per_seq_s
        inside = points[points["hardware"] == hardware]
        fitted = inside.loc[inside["tensor_parallel"] == FITTED_TP, "token_time"] * MS
        checked = inside.loc[inside["tensor_parallel"] == CHECKED_TP, "token_time"] * MS
        launch_s = (fitted.median() - host_s) / LAYERS
        error = (host_s + LAYERS * launch_s) / checked - 1
        rows.append(
            {
                "host": deployment.device.host,
                "launch_per_layer_s": launch_s,
                "num_points": len(fitted),
                "median": 100 * error.abs().median(),
                "worst": 100 * error.abs().max(),
            }
        )
    return pd.DataFrame(rows)
