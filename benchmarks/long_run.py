"""Memory beyond the recorded log, over a day of diurnal load.

    python -m benchmarks.long_run [requests=150000] [replicas=64]

Prints, over the day, the resident memory, the size of the log (iterations and request events) and the difference,
which should stay constant.
"""

import os
import sys
import time

from simulator.cluster import Cluster
from simulator.config import load_config
from simulator.simulation import simulate

DAY_S = 86_400
# Bytes of an event: a few numbers of 8 bytes.
_EVENT_BYTES = {"admissions": 40, "prefill_ends": 16, "finishes": 16, "preemptions": 16, "decode_spans": 32}


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def recorded_bytes(cluster: Cluster) -> int:
    """Return the size of the logs of all replicas."""
    total = 0
    for run in cluster.runs:
        log, request_events = run.log, run.replica.request_events
        total += 16 * log.num_iterations + 72 * log.num_runs
        total += sum(len(getattr(request_events, name)) * size for name, size in _EVENT_BYTES.items())
    return total


def main() -> None:
    """Run the command line."""
    options = {"requests": "150000", "replicas": "64"} | dict(argument.split("=", 1) for argument in sys.argv[1:])
    count = int(options["requests"])
    parts = load_config(
        "trace=sharegpt",
        "arrival=diurnal",
        f"arrival.qps={count / DAY_S}",
        f"trace.num_requests={count}",
        f"cluster.replicas={options['replicas']}",
        "cluster.router=least_outstanding_requests",
        "output.log=false",
    )
    clusters: list[Cluster] = []
    began_s, rows = time.process_time(), []
    build, Cluster.run = Cluster.run, lambda self: (clusters.append(self), build(self))[1]  # type: ignore[method-assign]

    def sample(_: int) -> None:
        hour = int(clusters[0].clock.now // 3600)
        if hour % 2 == 0 and (not rows or rows[-1][0] < hour):
            rows.append((hour, resident_bytes(), recorded_bytes(clusters[0])))

    try:
        result = simulate(**parts, progress=sample)
    finally:
        Cluster.run = build  # type: ignore[method-assign]
    print("hour  resident, MiB  recorded, MiB  difference, MiB")
    for hour, resident, recorded in rows:
        print(f"{hour:4}  {resident / 2**20:13.0f}  {recorded / 2**20:13.0f}  {(resident - recorded) / 2**20:15.0f}")
    num_iterations = sum(len(replica.logged.end_s) for replica in result.replicas)
    print(
        f"{result.end_s / 3600:.1f} h, {result.num_by_status['num_finished']:,} of {count:,} requests finished, "
        f"{num_iterations:,} iterations, {time.process_time() - began_s:.0f} s of CPU, "
        f"{resident_bytes() / 2**20:.0f} MiB at the end"
    )


if __name__ == "__main__":
    main()
