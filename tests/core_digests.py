"""Digests of random runs, to compare the two cores.

python -m tests.core_digests [runs=2000] [seed=0]     prints one digest per run
"""

import hashlib
import sys

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from simulator import Result
from simulator.core import in_use
from simulator.iteration_time import Affine
from tests.strategies import Workload, policies, serve_workload, workloads

TIMES = (Affine(), Affine(0.5, 0.0, 0.0), Affine(0.01, 0.001, 1e-5))


def digest(result: Result) -> str:
    """Return a digest of all requests, iterations, events and stays of a run."""
    found = hashlib.sha256(repr(sorted(result.summary.items(), key=str)).encode())
    tables = [result.requests, result.stays.columns, *(replica.iterations for replica in result.replicas)]
    for table in tables:
        for name in sorted(table):
            column = np.asarray(table[name])
            found.update(
                name.encode() + (repr(column.tolist()).encode() if column.dtype == object else column.tobytes())
            )
    return found.hexdigest()[:16]


def print_digests(runs: int, number: int) -> None:
    """Print the digest of each run."""

    @seed(number)
    @settings(
        max_examples=runs, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(workloads(), st.data())
    def run(workload: Workload, data: st.DataObject) -> None:
        policy = data.draw(policies(workload.max_num_seqs))
        times = data.draw(st.sampled_from(TIMES))
        print(digest(serve_workload(workload, policy, times)))

    run()


if __name__ == "__main__":
    options = {"runs": "2000", "seed": "0"} | dict(argument.split("=", 1) for argument in sys.argv[1:])
    print(in_use())
    print_digests(int(options["runs"]), int(options["seed"]))
