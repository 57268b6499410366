"""Simulated iterations per second with vLLM V1's scheduler, relative to Sarathi's.

    python -m benchmarks.vllm_v1            a minute
    python -m benchmarks.vllm_v1 --large    with 1,000,000 requests that share prefixes

Ratios are of CPU time, summary included: medians over alternating simulations.
"""

import argparse
import resource
import statistics
import time

from simulator import simulate
from simulator.config import load_config

REPETITIONS = 5
WORK = {
    "sharegpt, 90 % of saturation": ("trace=sharegpt", "trace.num_requests=3000", "arrival.qps=1.87"),
    "sharegpt, overload": ("trace=sharegpt", "trace.num_requests=2000", "arrival.qps=20"),
    "sharegpt, 1,200 KV blocks": (
        "trace=sharegpt",
        "trace.num_requests=1000",
        "arrival.qps=20",
        "kv_cache.num_blocks=1200",
    ),
    "arxiv": ("trace=arxiv", "trace.num_requests=1500", "arrival.qps=0.6"),
    "sessions": ("trace=sharegpt_sessions", "arrival=sessions", "trace.num_requests=3000", "arrival.qps=1.8"),
    "shared_prefix": ("trace=shared_prefix", "trace.num_requests=5000", "arrival.qps=6"),
    "256 decodes": (
        "trace=fixed",
        "trace.prompt_tokens=16",
        "trace.output_tokens=4000",
        "trace.num_requests=256",
        "arrival.qps=100000",
        "scheduler.max_num_seqs=256",
    ),
    "sharegpt, pp=4": ("trace=sharegpt", "trace.num_requests=2000", "arrival.qps=2", "parallel.pp=4"),
}
POLICIES = {
    "sarathi": ("scheduler=sarathi", "scheduler.token_budget=2048"),
    "vllm_v1": ("scheduler=vllm_v1", "kv_cache.prefix_caching=false"),
    "vllm_v1, caching": ("scheduler=vllm_v1", "kv_cache.prefix_caching=true"),
    "vllm_v1, async": ("scheduler=vllm_v1", "kv_cache.prefix_caching=false", "scheduler.async_scheduling=true"),
}


def rates(work: tuple[str, ...]) -> dict[str, list[float]]:
    """Return the iterations per second of CPU time by policy.

    Each policy has one value per repetition.
    """
    runs = {name: load_config(*options, *work) for name, options in POLICIES.items()}
    result: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPETITIONS):
        for name, arguments in runs.items():
            start = time.process_time()
            summary = simulate(**arguments).summary
            result[name].append(summary["num_iterations"] / (time.process_time() - start))
    return result


def compare() -> None:
    """Print the table of ratios."""
    compared = [name for name in POLICIES if name != "sarathi"]
    print(f"| work | sarathi, us per iteration | {' | '.join(compared)} |")
    print("|---|" + "---|" * len(POLICIES))
    for title, work in WORK.items():
        by_policy = rates(work)
        base = by_policy["sarathi"]
        cells = [f"{1e6 / statistics.median(base):.2f}"]
        ratios = (
            [rate / base_rate for rate, base_rate in zip(by_policy[name], base, strict=True)] for name in compared
        )
        cells += [f"{statistics.median(values):.2f}" for values in ratios]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def large() -> None:
    """Simulate a million requests that share prefixes; print time and memory."""
    start = time.process_time()
    arguments = load_config("scheduler=vllm_v1", "trace=shared_prefix", "trace.num_requests=1000000", "arrival.qps=6")
    summary = simulate(**arguments).summary
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"\n1,000,000 requests of shared_prefix, caching: {time.process_time() - start:.0f} s of CPU, {memory:.2f} GB, "
        f"{summary['num_iterations']:,} iterations, {summary['prefix_cache']['hit_rate_tokens']:.1%} of the prompt "
        f"tokens cached, {summary['prefix_cache']['num_evicted_blocks']:,} blocks evicted"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also 1,000,000 requests that share prefixes")
    options = parser.parse_args()
    compare()
    if options.large:
        large()


if __name__ == "__main__":
    main()
