"""Shares of their peaks that GPUs reach: the constants of `iteration_time=roofline`.

    python -m profiling.fit.roofline DIR

DIR has the kernel times published with Vidur (Agrawal et al., MLSys 2024; MIT licence): one CSV file per GPU and model
in `linear/<gpu>_<model>.csv.gz`, and attention kernels in `attention.csv.gz`. Prints medians over all shapes of each
GPU.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

# Peaks of the measured devices: 10^12 FLOP/s (dense half precision) and 10^9 byte/s, NVIDIA data sheets.
PEAKS = {"a100": (312.0, 2039.0), "a40": (149.7, 696.0), "h100": (989.4, 3350.0)}
BYTES = 2
COMPUTE_BOUND_TOKENS = 1024
MEMORY_BOUND_TOKENS = 16


def linear_rows(path: Path) -> pd.DataFrame:
    """Return the GEMM times of a file.

    Returns:
        Columns operator, m, k, n, seconds (median).
    """
    table = pd.read_csv(path)
    tp = table["num_tensor_parallel_workers"]
    hidden, ffn = table["n_embd"], table["n_expanded_embd"]
    head_dim = hidden // table["n_head"]
    kv_heads = (table["n_kv_head"] // tp).clip(lower=1)
    gates = np.where(table["use_gated_mlp"], 2, 1)
    shapes = {
        "attn_pre_proj": (hidden, (table["n_head"] // tp + 2 * kv_heads) * head_dim),
        "attn_post_proj": (hidden // tp, hidden),
        "mlp_up_proj": (hidden, gates * ffn // tp),
        "mlp_down_proj": (ffn // tp, hidden),
    }
    parts = [
        pd.DataFrame(
            {
                "operator": operator,
                "m": table["num_tokens"],
                "k": k,
                "n": n,
                "seconds": table[f"time_stats.{operator}.median"] * 1e-3,
            }
        )
        for operator, (k, n) in shapes.items()
    ]
    return pd.concat(parts)


def attained(flops: pd.Series, num_bytes: pd.Series, seconds: pd.Series, gpu: str) -> tuple[pd.Series, pd.Series]:
    """Return the shares of peak compute and peak bandwidth that kernels reach."""
    peak_tflops, peak_gb_per_s = PEAKS[gpu]
    return flops / seconds / (peak_tflops * 1e12), num_bytes / seconds / (peak_gb_per_s * 1e9)


def gemm_constants(folder: Path, gpu: str) -> dict[str, float]:
    """Return the roofline constants of GEMMs.

    They are the median shares of the peaks that GEMMs reach, and the time of the shortest kernels.
    """
    files = sorted((folder / "linear").glob(f"{gpu}_*.csv.gz"))
    rows = pd.concat([linear_rows(path) for path in files])
    flops = 2.0 * rows["m"] * rows["k"] * rows["n"]
    num_bytes = BYTES * (rows["m"] * rows["k"] + rows["k"] * rows["n"] + rows["m"] * rows["n"])
    compute, memory = attained(flops, num_bytes, rows["seconds"], gpu)
    floor = pd.concat([pd.read_csv(path).query("num_tokens <= 8")["time_stats.add.median"] for path in files])
    return {
        "compute_efficiency": compute[rows["m"] >= COMPUTE_BOUND_TOKENS].median(),
        "memory_efficiency": memory[rows["m"] <= MEMORY_BOUND_TOKENS].median(),
        "kernel_floor_us": floor.median() * 1e3,
    }


def attention_constants(folder: Path, gpu: str) -> dict[str, float]:
    """Return the roofline constants of attention.

    They are the median shares of the peaks that attention reaches (compute in prefill, bandwidth in decode) and the L2
    bandwidth, with the number of rows of each phase.
    """
    rows = pd.read_csv(folder / "attention.csv.gz")
    rows = rows[rows["device"] == gpu]
    seconds = rows["ms"] * 1e-3
    width = rows["q_heads"] * rows["head_dim"]
    flops = 4.0 * width * rows["chunk"] * (rows["kv"] + rows["chunk"] / 2)
    num_bytes = 2.0 * BYTES * rows["kv_heads"] * rows["head_dim"] * rows["batch"] * rows["kv"]
    compute, memory = attained(flops, num_bytes, seconds, gpu)
    prefill = (rows["phase"] == "prefill") & (rows["chunk"] >= COMPUTE_BOUND_TOKENS)
    decode = (rows["phase"] == "decode") & (rows["batch"] * rows["kv"] >= 32768)
    return {
        "prefill_attention_efficiency": compute[prefill].median(),
        "decode_attention_efficiency": memory[decode].median(),
        "l2_gb_per_s": _l2_bandwidth(rows, num_bytes / seconds / 1e9, gpu),
        "prefill_rows": float(prefill.sum()),
        "decode_rows": float(decode.sum()),
    }


def _l2_bandwidth(rows: pd.DataFrame, gb_per_s: pd.Series, gpu: str) -> float:
    """Return the L2 bandwidth, GB/s, from decodes above the HBM peak.

    Their keys and values come from the L2 cache. The 99th percentile is taken: lower rates still read a part from HBM.
    NaN if no decode is above the peak.
    """
    faster = gb_per_s[(rows["phase"] == "decode") & (gb_per_s > PEAKS[gpu][1])]
    return float(faster.quantile(0.99))


def main(folder: str) -> None:
    """Print the constants of each GPU."""
    table = {gpu: gemm_constants(Path(folder), gpu) | attention_constants(Path(folder), gpu) for gpu in PEAKS}
    print(pd.DataFrame(table).T.round(3).to_string())


if __name__ == "__main__":
    main(sys.argv[1])
