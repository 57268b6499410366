"""Measured against simulated serving times of vLLM.

    pip download aiconfigurator-core==0.12.0 --no-deps && unzip aiconfigurator_core*.whl -d aic
    python -m benchmarks.vllm_serving aic/aiconfigurator_core/systems/silicon_sample.csv

The file is part of the PyPI package aiconfigurator-core (NVIDIA, Apache-2.0). The 90 points used are closed-loop runs
of Qwen3-32B on H100 GPUs: the mean TTFT and TPOT of vLLM 0.12.0, which schedules synchronously by default, at a
constant number of concurrent requests of equal lengths. Settings that the file does not state are the engine's defaults
on that GPU. Nothing is fitted to these times.
"""

import sys

import numpy as np
import pandas as pd

from simulator import simulate
from simulator.config import load_config

RUNS = "Qwen_Qwen3-32B.csv"
SETTING = (
    "model=qwen3_32b",
    "device=h100_sxm",
    "scheduler=vllm_v1",
    "scheduler.max_num_batched_tokens=8192",
    "scheduler.max_num_seqs=1024",
    "kv_cache.memory_utilization=0.9",
    "engine=vllm_v1_sync",
    "engine.sampling=top_k_top_p",
    "trace=fixed",
    "arrival=closed_loop",
    "arrival.think_s=0",
)
ROUNDS = int(__import__("os").environ.get("ROUNDS", "20"))  # requests per user


def read_measured(path: str) -> pd.DataFrame:
    """Return the measured points, one row each."""
    table = pd.read_csv(path, low_memory=False)
    source = table["silicon_data_source"].astype(str)
    points = table[(table["backend"] == "vllm") & (table["system"] == "h100_sxm") & source.str.contains(RUNS)].copy()
    if points.empty:
        sys.exit(f"{path} has no rows of {RUNS} on h100_sxm")
    points["users"] = source[points.index].str.extract(r"silicon_concurrency=(\d+)$", expand=False).astype(int)
    return points.astype({"tp_size": int, "isl": int, "osl": int})


def simulate_point(tp: int, prompt: int, output: int, users: int) -> tuple[float, float]:
    """Return the simulated mean TTFT and TPOT, milliseconds."""
    result = simulate(
        **load_config(
            *SETTING,
            f"parallel.tp={tp}",
            f"trace.prompt_tokens={prompt}",
            f"trace.output_tokens={output}",
            f"trace.num_requests={ROUNDS * users}",
            f"arrival.users={users}",
        )
    )
    return result.summary["ttft_s"]["mean"] * 1e3, result.summary["tpot_s"]["mean"] * 1e3


def main() -> None:
    """Print measured and simulated times, and the errors.

    TPOT errors are by TP degree, output length and users.
    """
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = []
    for row in read_measured(sys.argv[1]).itertuples():
        ttft_ms, tpot_ms = simulate_point(row.tp_size, row.isl, row.osl, row.users)
        point = (row.tp_size, row.isl, row.osl, row.users)
        rows.append((*point, row.silicon_ttft_ms, ttft_ms, row.silicon_tpot_ms, tpot_ms))
    names = ["tp", "prompt", "output", "users", "ttft_ms", "simulated_ttft_ms", "tpot_ms", "simulated_tpot_ms"]
    table = pd.DataFrame(rows, columns=names).sort_values(names[:4])
    table["tpot_error"] = 100 * (table["simulated_tpot_ms"] / table["tpot_ms"] - 1)
    table["ttft_error"] = 100 * (table["simulated_ttft_ms"] / table["ttft_ms"] - 1)
    print(table.round(1).to_string(index=False))
    for keys in (["tp"], ["output"], ["users"]):
        errors = table.groupby(keys)["tpot_error"]
        print(
            errors.agg(points="count", median_absolute=lambda values: np.median(np.abs(values)), bias="median").round(1)
        )
    errors = table["tpot_error"]
    print(
        f"all points, TPOT: {errors.abs().median():.1f} % median absolute error, {errors.median():+.1f} % median error"
    )
    print(f"all points, TTFT: errors from {table['ttft_error'].min():+.0f} to {table['ttft_error'].max():+.0f} %")


if __name__ == "__main__":
    main()
