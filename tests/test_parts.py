"""Simulation in parts gives the same results as that of the whole cluster."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib.externals.loky import get_reusable_executor

from simulator import Result, load_config, simulate
from simulator.__main__ import main
from simulator.results import merged
from simulator.routers import Arrival, ReplicaLoad, Router
from simulator.simulation import CHECK_VARIABLE
from tests.core_digests import digest
from tests.helpers import run_main

COMMON = ("trace=sharegpt", "trace.num_requests=150", "arrival.qps=12")
DEPLOYMENTS = {
    "sarathi": ("cluster.replicas=4",),
    "pipeline": (
        "cluster.replicas=3",
        "parallel.pp=2",
        "scheduler=orca",
        "output.batches=true",
        "output.timeline=true",
    ),
    "vllm_v1": ("cluster.replicas=3", "scheduler=vllm_v1", "engine=vllm_v1", "device=h100_sxm"),
    "preemptions": ("cluster.replicas=2", "scheduler=vllm", "kv_cache.num_blocks=300", "time_limit_s=20"),
    "groups": ("cluster.groups=[{replicas:2},{device:a40,replicas:1}]", "cluster/router=random"),
    "prefixes": ("cluster.replicas=3", "trace=shared_prefix", "scheduler=vllm_v1", "engine=vllm_v1", "device=h100_sxm"),
    "more replicas than requests": ("cluster.replicas=5", "trace.num_requests=3"),
}


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave checks off, which look at the whole cluster."""
    monkeypatch.delenv(CHECK_VARIABLE, raising=False)


class ReadsLoads:
    """Router that reads a load, so that the replicas are simulated together."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        assert loads[0].num_requests >= 0
        return self._router.route(arrival, loads, random)


def in_one_piece(arguments: dict[str, Any]) -> Result:
    return simulate(**arguments | {"router": ReadsLoads(arguments["router"])})


def in_parts(arguments: dict[str, Any]) -> Result:
    with patch("simulator.simulation.merged", wraps=merged) as merge:
        result = simulate(**arguments)
    merge.assert_called_once()
    return result


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_parts_give_the_same_result(name: str) -> None:
    arguments = load_config(*COMMON, *DEPLOYMENTS[name])
    whole, apart = in_one_piece(arguments), in_parts(arguments)
    assert digest(apart) == digest(whole)
    assert list(apart.requests) == list(whole.requests)
    if whole.replicas[0].members is not None:
        assert list(apart.batches()) == list(whole.batches())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(1, 40), st.sampled_from(["round_robin", "random"]))
def test_random_runs_give_the_same_result(seed: int, replicas: int, qps: float, router: str) -> None:
    arguments = load_config(
        "trace=sharegpt",
        "trace.num_requests=40",
        f"seed={seed}",
        f"arrival.qps={qps}",
        f"cluster.replicas={replicas}",
        f"cluster/router={router}",
        "kv_cache.num_blocks=200",
    )
    assert digest(in_parts(arguments)) == digest(in_one_piece(arguments))


def test_workers_give_the_same_result_and_tell_their_progress() -> None:
    arguments = load_config(*COMMON, "cluster.replicas=4")
    counts: list[int] = []
    apart = in_parts({**arguments, "workers": 2, "progress": counts.append})
    assert digest(apart) == digest(in_one_piece(arguments))
    assert counts == sorted(counts)
    assert counts[-1] == 150


def test_progress_is_told_across_parts() -> None:
    counts: list[int] = []
    simulate(**load_config(*COMMON, "cluster.replicas=4"), progress=counts.append)
    assert counts == sorted(counts)
    assert counts[-1] == 150


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["cluster/router=least_outstanding_requests"], "LeastOutstandingRequests looks at the load of the replicas"),
        (["arrival=closed_loop", "arrival.users=8"], "requests wait for others to end"),
        (["arrival.max_concurrency=8"], "the number of requests in flight is limited"),
        (["faults.schedule=[{kind:failure,at_s:5,for_s:5}]"], "faults move requests to other replicas"),
        (["check=true"], "check=true looks at the whole cluster"),
        (["cluster.replicas=1"], "there is one replica"),
    ],
)
def test_workers_without_effect_are_a_warning(overrides: list[str], reason: str) -> None:
    result = simulate(**load_config(*COMMON[:2], "cluster.replicas=3", "cluster.workers=2", *overrides))
    (warning,) = (warning for warning in result.warnings if warning.kind == "one_process")
    assert warning.text == f"cluster.workers=2 has no effect: {reason}"


def test_an_error_of_a_router_is_not_hidden() -> None:
    class Faulty:
        def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        simulate(**load_config(*COMMON, "cluster.replicas=2") | {"router": Faulty()})


def test_a_router_that_hides_the_refusal_is_still_simulated_with_loads() -> None:
    class Hides:
        def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
            try:
                return min(range(len(loads)), key=lambda replica: loads[replica].num_requests)
            except Exception:
                return 0

    result = simulate(**load_config(*COMMON, "cluster.replicas=2") | {"router": Hides()})
    assert np.bincount(result.requests["replica"]).min() > 0


def test_an_error_in_a_worker_names_the_line_of_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "from simulator.schedulers import Sarathi\n"
        "class Mine(Sarathi):\n"
        "    def schedule(self, replica):\n"
        "        raise RuntimeError('no idea')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    get_reusable_executor().shutdown(wait=True)  # workers of another test do not know the folder
    mine = "allow_targets=[mine]", "scheduler._target_=mine.Mine"
    for workers in (1, 2):
        overrides = [*COMMON, "cluster.replicas=2", f"cluster.workers={workers}", *mine, "hydra.run.dir=run"]
        assert run_main(main, overrides, tmp_path, monkeypatch) == 2
        assert capsys.readouterr().err == "error: mine.py:4, in schedule: RuntimeError: no idea\n"


def test_a_deployment_is_pickled_without_its_tables() -> None:
    deployment = load_config(*COMMON)["deployment"]
    deployment.stage_times()
    assert pickle.loads(pickle.dumps(deployment)) == deployment


@pytest.mark.parametrize(("override", "line"), [
    ("cluster.workers=0", "error: cluster.workers must be an integer of at least 1, got 0\n"),
    ("cluster.backend=dask", "error: cluster.backend must be one of loky, ray; got 'dask'\n"),
])  # fmt: skip
def test_mistakes_are_one_line(
    override: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, [override, "hydra.run.dir=run"], tmp_path, monkeypatch) == 2
    assert capsys.readouterr().err == line
