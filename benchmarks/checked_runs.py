"""Cost of check=true: CPU time relative to an unchecked simulation.

Checked and unchecked simulations alternate.

python -m benchmarks.checked_runs
"""

import time
from statistics import median
from typing import Any

from simulator.config import load_config
from simulator.simulation import simulate

RUNS = {
    "default": (),
    "default, 6,000 requests": ("trace.num_requests=6000",),
    "sharegpt at 3/s": ("trace=sharegpt", "trace.num_requests=2000", "arrival.qps=3"),
    "sharegpt at 3/s, vllm": ("trace=sharegpt", "trace.num_requests=2000", "arrival.qps=3", "scheduler=vllm"),
    "sharegpt at 3/s, orca": ("trace=sharegpt", "trace.num_requests=2000", "arrival.qps=3", "scheduler=orca"),
    "sharegpt at 3/s, pp=4": ("trace=sharegpt", "trace.num_requests=2000", "arrival.qps=3", "parallel.pp=4"),
    "near saturation": ("experiment=near_saturation",),
    "sharegpt at 3/s, roofline": (
        "trace=sharegpt",
        "trace.num_requests=2000",
        "arrival.qps=3",
        "iteration_time=roofline",
    ),
}
PAIRS = 3


def seconds(arguments: dict[str, Any], check: bool) -> float:
    """Return the CPU seconds of a simulation and its summary."""
    begin_s = time.process_time()
    _ = simulate(**arguments | {"check": check}).summary
    return time.process_time() - begin_s


def main() -> None:
    """Run the command line."""
    for name, overrides in RUNS.items():
        arguments = load_config(*overrides)
        seconds(arguments, check=True)  # warm-up: iteration time tables are built once
        ratios = sorted(seconds(arguments, check=True) / seconds(arguments, check=False) for _ in range(PAIRS))
        print(f"{name:28} {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
