"""Speed of the simulator, relative to a bare SimPy timeout loop.

Both are timed in the same run.

python -m benchmarks.speed            about a minute
python -m benchmarks.speed --large    with 1,000,000 requests through 16 replicas
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import simpy

from simulator import Deployment, Result, simulate
from simulator.config import load_config
from simulator.model import KVMemory
from simulator.schedulers import Sarathi
from traces import Trace

REPETITIONS = 5


def bare_timeout_s(count: int = 100_000) -> float:
    """Return the seconds per event of a SimPy process that only waits."""

    def wait(env: simpy.Environment) -> Generator[simpy.Timeout, None, None]:
        for _ in range(count):
            yield env.timeout(0.01)

    env = simpy.Environment()
    env.process(wait(env))
    start = time.perf_counter()
    env.run()
    return (time.perf_counter() - start) / count


def measure(run: Callable[[], Result]) -> tuple[Result, float, float]:
    """Time a simulation and a bare timeout loop in alternation.

    Returns:
        The result, the seconds per iteration, summary included, and the ratio of a bare timeout to them; medians over
        the repetitions.
    """
    seconds, ratios = [], []
    for _ in range(REPETITIONS):
        timeout_s = bare_timeout_s()
        start = time.perf_counter()
        result = run()
        num_iterations = result.summary["num_iterations"]
        seconds.append((time.perf_counter() - start) / num_iterations)
        ratios.append(timeout_s / seconds[-1])
    return result, statistics.median(seconds), statistics.median(ratios)


def near_saturation(iteration_time: str) -> None:
    """Print the speed at four loads.

    One replica serves 10,000 sharegpt requests with sarathi.
    """
    print(f"\n## 10,000 sharegpt requests, sarathi, one replica, iteration_time={iteration_time}\n")
    common = ("trace=sharegpt", "trace.num_requests=10000", f"iteration_time={iteration_time}")
    overload = simulate(**load_config(*common, "arrival.qps=20"))
    saturation = overload.summary["requests_per_s"]
    print(f"Saturation: {saturation:.2f} requests/s (throughput at 20 arrivals/s).\n")
    print("| load | iterations | mean decodes | us per iteration | rate / bare timeout loop |")
    print("|---|---|---|---|---|")
    for share in (0.5, 0.75, 0.9, 0.95):
        arguments = load_config(*common, f"arrival.qps={share * saturation}")
        result, seconds, ratio = measure(lambda arguments=arguments: simulate(**arguments))
        decodes = result.replicas[0].iterations["num_decodes"].mean()
        count = result.summary["num_iterations"]
        print(f"| {share:.0%} of saturation | {count:,} | {decodes:.0f} | {seconds * 1e6:.2f} | {ratio:.2f} |")


def cost_by_batch() -> None:
    """Print the cost of an iteration by number of running requests.

    All of them are decoding.
    """
    print("\n## Cost of an iteration by running requests (20,000 output tokens each)\n")
    print("| running requests | us per iteration | to that of 16 | without repeats: us | to that of 16 |")
    print("|---|---|---|---|---|")
    base = load_config()["deployment"]
    first: dict[bool, float] = {}
    for running in (16, 64, 256):
        cells = []
        for repeats in (True, False):
            arguments: dict[str, Any] = {
                "trace": Trace(np.full(running, 16), np.full(running, 20_000), np.zeros(running)),
                "deployment": Deployment(
                    base.model,
                    base.device,
                    Sarathi(max_num_seqs=256) if repeats else SarathiWithoutRepeats(max_num_seqs=256),
                    iteration_time=base.iteration_time,
                    kv_cache=KVMemory(num_blocks=10**6),
                ),
            }
            _, seconds, _ = measure(lambda arguments=arguments: simulate(**arguments))
            first.setdefault(repeats, seconds)
            cells.append(f"{seconds * 1e6:.2f} | {seconds / first[repeats]:.2f}")
        print(f"| {running} | {' | '.join(cells)} |")


class SarathiWithoutRepeats(Sarathi):
    """Sarathi without repeats: the engine schedules every iteration."""

    def schedule(self, replica: Any) -> Any:
        """Return a batch that does not repeat."""
        batch = super().schedule(replica)
        if batch is not None:
            batch.repeats = False
        return batch


def large() -> None:
    """Print cost per request and memory, up to a million requests.

    Each size runs in its own process.
    """
    print("\n## sharegpt through 16 replicas at 90 % of saturation\n")
    print("| requests | iterations | us per request | timeouts per request | peak memory, GB |")
    print("|---|---|---|---|---|")
    for count in (10_000, 100_000, 1_000_000):
        subprocess.run([sys.executable, "-m", "benchmarks.speed", "--requests", str(count)], check=True)


def large_row(count: int) -> None:
    """Print a row of `large`."""
    arguments = load_config("trace=sharegpt", f"trace.num_requests={count}", "cluster.replicas=16", "arrival.qps=38")
    timeout_s = bare_timeout_s()
    start = time.process_time()
    summary = simulate(**arguments).summary
    seconds = (time.process_time() - start) / count
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    row = f"{seconds * 1e6:.1f} | {seconds / timeout_s:.0f} | {memory:.2f}"
    print(f"| {count:,} | {summary['num_iterations']:,} | {row} |", flush=True)


def main_command() -> None:
    """Print the CPU time of the README's main command, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "simulator", "+scheduler=sarathi", "+trace=arxiv", f"hydra.run.dir={folder}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(REPETITIONS):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / REPETITIONS
    print(f"\n## The main command\n\n{cpu_s:.2f} s of CPU, start-up included (mean of {REPETITIONS}).")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also up to 1,000,000 requests through 16 replicas")
    parser.add_argument("--requests", type=int, help="print only the row of --large with this number of requests")
    options = parser.parse_args()
    if options.requests:
        large_row(options.requests)
        return
    print(f"Python {sys.version.split()[0]}; a bare SimPy timeout takes {bare_timeout_s() * 1e6:.2f} us here.")
    near_saturation("roofline")
    near_saturation("profile")
    cost_by_batch()
    main_command()
    if options.large:
        large()


if __name__ == "__main__":
    main()
