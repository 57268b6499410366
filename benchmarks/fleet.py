"""Wall time, CPU and memory of large clusters, by workers.

python -m benchmarks.fleet                    1,000,000 requests on 100 replicas, by one and two workers
python -m benchmarks.fleet 10000000 1000 2    requests, replicas, workers: one row
"""

import resource
import subprocess
import sys
import time

from joblib.externals.loky import get_reusable_executor

from simulator import simulate
from simulator.config import load_config

# Requests/s of a replica at 90 % of saturation, as in `benchmarks.speed --large`.
QPS = 38 / 16


def print_row(num_requests: int, num_replicas: int, workers: int) -> None:
    """Print the cost of one run, its start and its summary included."""
    start_s = time.perf_counter()
    sizes = f"trace.num_requests={num_requests}", f"cluster.replicas={num_replicas}", f"cluster.workers={workers}"
    arguments = load_config("trace=sharegpt", f"arrival.qps={QPS * num_replicas}", *sizes)
    loaded_s = time.perf_counter()
    result = simulate(**arguments)
    simulated_s = time.perf_counter()
    num_iterations = result.summary["num_iterations"]
    end_s = time.perf_counter()
    get_reusable_executor().shutdown(wait=True)  # the system counts the CPU time of processes that have ended
    parent, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = " | ".join(f"{usage.ru_utime + usage.ru_stime:.1f}" for usage in (parent, children))
    walls = end_s - start_s, loaded_s - start_s, simulated_s - loaded_s, end_s - simulated_s
    memory = f"{parent.ru_maxrss * 1024 / 1e9:.2f} | {children.ru_maxrss * 1024 / 1e9:.2f}"
    cells = f"{num_requests:,} | {num_replicas:,} | {workers} | {num_iterations:,}"
    times = " | ".join(f"{wall:.1f}" for wall in walls)
    print(f"| {cells} | {times} | {cpu} | {memory} |", flush=True)


def main() -> None:
    """Print the table, or one row of it."""
    if len(sys.argv) > 1:
        print_row(*map(int, sys.argv[1:]))
        return
    names = "requests | replicas | workers | iterations | wall, s | trace | simulation | summary"
    print(f"| {names} | CPU, s | of workers | memory, GB | of a worker |")
    print("|" + "---|" * 12)
    for workers in (1, 2):
        row = [sys.executable, "-m", "benchmarks.fleet", "1000000", "100", str(workers)]
        subprocess.run(row, check=True)


if __name__ == "__main__":
    main()
