"""Equal configurations and seeds give equal bytes in every environment, and random streams are independent.

test_sweep.py covers the launchers of sweeps.
"""

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import simulate
from simulator.config import load_config
from tests.helpers import REPOSITORY

RUN = (
    "trace=sharegpt trace.num_requests=60 arrival.qps=6 cluster.replicas=2 parallel.pp=2 output.batches=true "
    "cluster.router=power_of_two_choices output.timeline=true seed=3 "
    "faults.rates=[{kind:failure,every_s:20,for_s:2}]"
)
# Commands of a user, run in one folder in this order.
COMMANDS = {
    "run": f"simulator {RUN} hydra.run.dir=run",
    "capacity": "simulator.capacity trace=sharegpt trace.num_requests=30 slo.tbt_p99=0.2 hydra.run.dir=capacity",
    "plot": "simulator.plot run=run plots=latency,batches output=plots format=svg",
    "report": "simulator.report run=run output=report.html",
    "compare": "simulator.compare a=run b=run output=compared",
    "sweep": "simulator -m scheduler=vllm,sarathi trace=sharegpt trace.num_requests=30 hydra.sweep.dir=sweep",
}
# Environments that must not change the output.
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "plain": {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
    "again": {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
    "another hash seed": {"PYTHONHASHSEED": "12345"},
    "random hash seed": {"PYTHONHASHSEED": "random"},
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "another place and time": {"LANG": "C", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
    "terminal": {"COLUMNS": "60", "TERM": "xterm", "FORCE_COLOR": "1"},
}


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file, except the one into which Hydra writes the name of the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "multirun.yaml"]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def start(folder: Path, command: str, environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        check=True,
        text=True,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("plain")
    for command in COMMANDS.values():
        start(folder, command, ENVIRONMENTS["plain"])
    result = digests(folder)
    assert len(result) >= 20
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name != "plain"])
def test_the_bytes_are_the_same_in_every_process(name: str, plain: dict[str, str], tmp_path: Path) -> None:
    commands = COMMANDS if name == "again" else {key: COMMANDS[key] for key in ("run", "report", "sweep")}
    for command in commands.values():
        start(tmp_path, command, ENVIRONMENTS[name])
    result = digests(tmp_path)
    assert result == {path: digest for path, digest in plain.items() if path in result}
    assert name != "again" or result == plain


def parts(*overrides: str) -> dict[str, Any]:
    return load_config("trace=sharegpt", "trace.num_requests=200", "arrival.qps=8", *overrides)


def lengths_and_times(*overrides: str) -> tuple[list[int], list[float]]:
    trace = parts(*overrides)["trace"]
    return trace.prompt_tokens.tolist(), trace.arrival_s.tolist()


@pytest.mark.parametrize(
    "change",
    [
        "cluster.replicas=3",
        "scheduler=vllm",
        "cluster.router=random",
        "faults.rates=[{kind:failure,every_s:9,for_s:1}]",
        "model=llama3_8b",
        "check=true",
    ],
)
def test_requests_and_arrivals_do_not_depend_on_the_deployment(change: str) -> None:
    assert lengths_and_times(change) == lengths_and_times()


def test_lengths_and_arrivals_are_independent() -> None:
    usual, faster, arxiv = lengths_and_times(), lengths_and_times("arrival.qps=16"), lengths_and_times("trace=arxiv")
    assert faster[0] == usual[0]
    assert np.allclose(np.array(faster[1]) * 2, usual[1])
    assert arxiv[0] != usual[0]
    assert arxiv[1][:100] == usual[1][:100]
    assert lengths_and_times("arrival=gamma")[0] == usual[0]
    assert lengths_and_times("seed=1")[0] != usual[0]
    assert lengths_and_times("seed=1")[1] != usual[1]


def test_faults_and_routing_are_independent() -> None:
    rates = "faults.rates=[{kind:slowdown,every_s:9,for_s:1,slowdown:1.0001}]"
    router = "cluster.router=random"
    faulty = simulate(**parts("cluster.replicas=3", rates, router))
    assert [fault.at_s for fault in faulty.faults.spans] == [
        fault.at_s for fault in simulate(**parts("cluster.replicas=3", rates)).faults.spans
    ]
    without = simulate(**parts("cluster.replicas=3", router))
    assert np.array_equal(faulty.requests["replica"], without.requests["replica"])


def test_a_run_does_not_depend_on_earlier_runs() -> None:
    alone = simulate(**parts()).summary
    simulate(**parts("scheduler=vllm", "seed=9", "cluster.replicas=2"))
    assert simulate(**parts()).summary == alone
