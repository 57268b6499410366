"""Shares of their peaks that kernels attain: the constants of `iteration_time=roofline`.

    python -m profiling.fit.roofline TABLES

TABLES is a folder of a device, or a folder of device folders, as `python -m profiling import` writes them. Prints
medians over the large kernels of each device, in half precision.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from profiling.fit.attention import DECODE, PREFILL, attention_rows
from profiling.fit.designs import gpu_of
from profiling.fit.kernels import elementwise_rows, matmul_rows
from profiling.tables import Header, device_folders, print_table
from simulator.iteration_time import Floats, Gpu
from simulator.model import HALF_BYTES

# Larger kernels attain their full rate.
LARGE_FLOPS, LARGE_BYTES = 1e11, 1e8
# Matrix products of no more tokens are bound by reading weights.
FEW_TOKENS = 16
# Quantile of the times of elementwise operators on few tokens that stands for the shortest kernel.
SHORTEST = 0.1


def constants(folder: Path) -> dict[str, Any]:
    """Return the constants of a device, as in `Attained`."""
    header = Header.read(folder)
    gpu = gpu_of(header)
    return {"device": header.device, "kernels": header.kernels, **_matmul(folder, gpu), **_attention(folder, gpu)}


def _matmul(folder: Path, gpu: Gpu) -> dict[str, float]:
    rows = matmul_rows(folder)
    rows = rows[rows["dtype"].isin(("bf16", "fp16"))]
    tokens, seconds = rows["num_tokens"].to_numpy(float), rows["seconds"].to_numpy()
    k, n = rows["k"].to_numpy(float), rows["n"].to_numpy(float)
    flops, num_bytes = 2.0 * tokens * k * n, HALF_BYTES * (k * n + (k + n) * tokens)
    is_large = (num_bytes >= LARGE_BYTES) & (tokens <= FEW_TOKENS)
    few = [part[part["num_tokens"] <= FEW_TOKENS]["seconds"] for _, part in elementwise_rows([folder])]
    return {
        "compute": _median(gpu.compute_s(flops) / seconds, flops >= LARGE_FLOPS),
        "bandwidth": _median(gpu.memory_s(num_bytes) / seconds, is_large),
        "kernel_us": float(pd.concat(few).quantile(SHORTEST) * 1e6) if few else np.nan,
    }


def _attention(folder: Path, gpu: Gpu) -> dict[str, float]:
    """Return the shares of attention, and the L2 bandwidth.

    Decodes faster than the HBM read keys and values from the L2 cache: the 99th percentile is its bandwidth, since the
    others still read a part from the HBM. NaN if there are none.
    """
    prefill, decode = attention_rows(folder, PREFILL), attention_rows(folder, DECODE)
    tokens, context = prefill["num_tokens"], prefill["context"]
    flops = (
        2.0 * prefill["batch"] * prefill["q_heads"] * prefill["head_dim"] * tokens * (2 * context + tokens)
    ).to_numpy()
    num_bytes = 2.0 * HALF_BYTES * decode["kv_heads"] * decode["head_dim"] * decode["batch"] * decode["context"]
    gb_per_s = (num_bytes / decode["seconds"]).to_numpy() / 1e9
    cached = gb_per_s[gb_per_s > gpu.bandwidth_gb_per_s]
    return {
        "prefill_attention": _median(gpu.compute_s(flops) / prefill["seconds"].to_numpy(), flops >= LARGE_FLOPS),
        "decode_attention": _median(gb_per_s / gpu.bandwidth_gb_per_s, num_bytes.to_numpy() >= LARGE_BYTES),
        "l2_gb_per_s": float(np.quantile(cached, 0.99)) if len(cached) else np.nan,
    }


def _median(values: Floats, chosen: NDArray[np.bool_]) -> float:
    return float(np.median(values[chosen])) if chosen.any() else np.nan


def main(folder: str) -> None:
    """Print the constants of each device."""
    print_table(pd.DataFrame(map(constants, device_folders(Path(folder)))).round(3), "shares of the peaks")


if __name__ == "__main__":
    main(sys.argv[1])
