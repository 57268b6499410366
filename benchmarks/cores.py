"""CPU time of simulations with both cores.

Relative to each other and to a bare SimPy timeout loop.

    python -m benchmarks.cores     about three minutes

The cores run in turns, each in its own process; medians over the turns. The time is that of the simulation, summary
included, after a first run that fills the tables of iteration times.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from simulator.core import COMPILED, PYTHON, VARIABLE

TURNS = 3
SHAREGPT = ("trace=sharegpt", "trace.num_requests=10000")
WORK = {
    "sarathi, half load": (*SHAREGPT, "scheduler=sarathi", "arrival.qps=1.04"),
    "sarathi, 90 % of saturation": (*SHAREGPT, "scheduler=sarathi", "arrival.qps=1.87"),
    "sarathi, 16 replicas, 90 %": (*SHAREGPT, "scheduler=sarathi", "arrival.qps=30", "cluster.replicas=16"),
    "vllm, half load": (*SHAREGPT, "scheduler=vllm", "arrival.qps=1.04"),
    "vllm, 90 % of saturation": (*SHAREGPT, "scheduler=vllm", "arrival.qps=1.87"),
    "orca, 90 % of saturation": (*SHAREGPT, "scheduler=orca", "arrival.qps=0.55"),
    "faster_transformer, 90 %": (*SHAREGPT, "scheduler=faster_transformer", "arrival.qps=0.18"),
    "vllm_v1, synchronous, half load": (*SHAREGPT, "scheduler=vllm_v1", "engine=vllm_v1_sync", "arrival.qps=1.04"),
    "vllm_v1, synchronous, 1.87/s": (*SHAREGPT, "scheduler=vllm_v1", "engine=vllm_v1_sync", "arrival.qps=1.87"),
    "vllm_v1, async, 1.87/s": (*SHAREGPT, "scheduler=vllm_v1", "arrival.qps=1.87"),
    "sarathi, pp=2": (*SHAREGPT, "scheduler=sarathi", "arrival.qps=1.87", "parallel.pp=2"),
    "sessions, sticky router": (
        "trace=sharegpt_sessions",
        "arrival=sessions",
        "trace.num_requests=10000",
        "arrival.qps=3",
        "cluster.replicas=2",
        "cluster.router=sticky",
    ),
}


def measure(overrides: tuple[str, ...]) -> None:
    """Print iterations, microseconds per iteration and per bare timeout."""
    from benchmarks.speed import bare_timeout_s
    from simulator import load_config, simulate

    arguments = load_config(*overrides)
    simulate(**arguments)
    start = time.process_time()
    count = simulate(**arguments).summary["num_iterations"]
    seconds = (time.process_time() - start) / count
    print(json.dumps([count, seconds * 1e6, bare_timeout_s() * 1e6]))


def run(core: str, name: str) -> list[float]:
    """Measure one work with one core, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cores", name]
    environment = os.environ | {VARIABLE: core, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    measured: list[float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Print the table."""
    print("| work | iterations | python, us | compiled, us | python / compiled | compiled / bare timeout loop |")
    print("|---|---|---|---|---|---|")
    for name in WORK:
        turns = [(run(PYTHON, name), run(COMPILED, name)) for _ in range(TURNS)]
        python_us, compiled_us = (statistics.median(turn[core][1] for turn in turns) for core in (0, 1))
        gain = statistics.median(python[1] / compiled[1] for python, compiled in turns)
        ratio = statistics.median(compiled[2] / compiled[1] for _, compiled in turns)
        count = f"{turns[0][0][0]:,}"
        print(f"| {name} | {count} | {python_us:.2f} | {compiled_us:.2f} | {gain:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(WORK[sys.argv[1]])
    else:
        main()
