"""Times that vLLM was measured to serve with, beside simulated ones: Qwen3-32B on H100 GPUs, 90 closed loops.

    pip download aiconfigurator-core==0.12.0 --no-deps && unzip aiconfigurator_core*.whl -d aic
    python -m benchmarks.vllm_serving aic/aiconfigurator_core/systems/silicon_sample.csv

The file is of the PyPI package aiconfigurator-core (NVIDIA, Apache-2.0): mean TTFT and TPOT of vLLM 0.12.0, which
schedules synchronously by default, with so many requests at a time, all of the same lengths. What is not in the file is
taken to be the default of the engine on that GPU. Nothing is fitted to it.
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
    "trace=fixed",
    "arrival=closed_loop",
    "metrics.warmup_s=1e-6",  # the first request of each user, all of which come at once
)
ROUNDS = 5  # requests of each user


def measured(path: str) -> pd.DataFrame:
    """The measured points, one row each."""
    table = pd.read_csv(path, low_memory=False)
    source = table["silicon_data_source"].astype(str)
    found = table[(table["backend"] == "vllm") & (table["system"] == "h100_sxm") & source.str.contains(RUNS)].copy()
    if found.empty:
        sys.exit(f"{path} has no rows of {RUNS} on h100_sxm")
    found["users"] = source[found.index].str.extract(r"silicon_concurrency=(\d+)$", expand=False).astype(int)
    return found.astype({"tp_size": int, "isl": int, "osl": int})


def simulated(tp: int, prompt: int, output: int, users: int) -> tuple[float, float]:
    """Mean TTFT and TPOT, milliseconds."""
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
    """Print measured and simulated times, and the errors by the number of GPUs and by the share of prompt tokens."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = []
    for one in measured(sys.argv[1]).itertuples():
        ttft_ms, tpot_ms = simulated(one.tp_size, one.isl, one.osl, one.users)
        point = (one.tp_size, one.isl, one.osl, one.users)
        rows.append((*point, one.silicon_ttft_ms, ttft_ms, one.silicon_tpot_ms, tpot_ms))
    names = ["tp", "prompt", "output", "users", "ttft_ms", "simulated_ttft_ms", "tpot_ms", "simulated_tpot_ms"]
    table = pd.DataFrame(rows, columns=names).sort_values(names[:4])
    table["tpot_error"] = 100 * (table["simulated_tpot_ms"] / table["tpot_ms"] - 1)
    table["ttft_error"] = 100 * (table["simulated_ttft_ms"] / table["ttft_ms"] - 1)
    print(table.round(1).to_string(index=False))
    for keys in (["tp"], ["output"], ["users"]):
        errors = table.groupby(keys)["tpot_error"]
        print(errors.agg(points="count", median_absolute=lambda one: np.median(np.abs(one)), bias="median").round(1))
    errors = table["tpot_error"]
    print(
        f"all points, TPOT: {errors.abs().median():.1f} % median absolute error, {errors.median():+.1f} % median error"
    )
    print(f"all points, TTFT: errors from {table['ttft_error'].min():+.0f} to {table['ttft_error'].max():+.0f} %")


if __name__ == "__main__":
    main()
