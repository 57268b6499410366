"""Recorded schedules of real engines: their folders, the overrides that replay a case, and a reader of its files."""

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.mark import ParameterSet

from simulator import Result
from tests.helpers import REPOSITORY, SHARED

# A few cases of each engine are in the repository. This folder holds the full sets, or others.
COMMITTED = REPOSITORY / "tests" / "recorded"
ELSEWHERE = Path(os.environ.get("RECORDED_SCHEDULES") or SHARED)


def cases(engine: str) -> list[ParameterSet]:
    """Return the folders of the recorded cases of an engine.

    Raises:
        FileNotFoundError: RECORDED_SCHEDULES names a folder without recordings.
    """
    if "RECORDED_SCHEDULES" in os.environ and not any(ELSEWHERE.glob("golden*/*/case.json")):
        raise FileNotFoundError(f"RECORDED_SCHEDULES={ELSEWHERE}: there is no golden*/CASE/case.json")
    committed = [pytest.param(folder, id=folder.name) for folder in sorted((COMMITTED / engine).iterdir())]
    others = [pytest.param(folder, id=f"all/{folder.name}") for folder in sorted((ELSEWHERE / engine).glob("*/"))]
    reason = f"the full set is not here: set RECORDED_SCHEDULES to a folder with {engine}/"
    return [*committed, *(others or [pytest.param(None, id="all", marks=pytest.mark.skip(reason=reason))])]


def overrides_of(case: dict[str, Any], requests: Path) -> list[str]:
    """Return the overrides that replay a recorded case, except the options of its scheduler."""
    return [
        f"scheduler={case['scheduler']}",
        f"scheduler.max_num_seqs={case['max_num_seqs']}",
        "trace=csv",
        f"trace.path='{requests}'",
        "trace.num_requests=null",
        "arrival=trace",
        "engine=none",
        "iteration_time=affine",
        *(f"iteration_time.{name}={value}" for name, value in case["cost"].items()),
        f"model.max_model_len={case['max_model_len']}",
        f"parallel.pp={case['pp']}",
        f"kv_cache.num_blocks={case['num_gpu_blocks']}",
        f"kv_cache.block_size={case['block_size']}",
        "output.batches=true",
    ]


def read(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file, plain or gzip."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def check_batches(folder: Path, result: Result, tolerance_s: float) -> None:
    """Compare all batches: members, their order and tokens, start and end of the iteration."""
    recorded = read(folder / "batches.csv.gz")
    simulated = list(result.batches())
    assert [(row[0], row[3], row[4], row[5] == "prefill") for row in simulated] == [
        (int(row["iteration"]), row["request_id"], int(row["num_tokens"]), row["is_prefill"] == "1") for row in recorded
    ]
    for position, name in ((1, "start_s"), (2, "end_s")):
        expected = np.array([float(row[name]) for row in recorded])
        assert np.abs(np.array([row[position] for row in simulated]) - expected).max(initial=0) <= tolerance_s


def check_memory(folder: Path, result: Result) -> None:
    """Compare free KV blocks and tokens in the KV cache after each decision."""
    recorded = read(folder / "iterations.csv.gz")
    iterations = result.replicas[0].iterations
    assert iterations["free_blocks"].tolist() == [int(row["free_blocks"]) for row in recorded]
    assert iterations["context_tokens"].tolist() == [int(row["context_tokens"]) for row in recorded]


def check_requests(folder: Path, result: Result, tolerance_s: float) -> None:
    """Compare the times of each request, its preemptions, and whether it was ignored."""
    recorded = read(folder / "result.csv")
    for name in ("first_scheduled_s", "first_token_s", "completed_s"):
        expected = np.array([float(row[name] or "nan") for row in recorded])
        assert np.array_equal(np.isnan(expected), np.isnan(result.requests[name]))
        assert np.nanmax(np.abs(result.requests[name] - expected), initial=0) <= tolerance_s
    assert result.requests["num_preemptions"].tolist() == [int(row["num_preemptions"]) for row in recorded]
    assert result.requests["ignored"].tolist() == [int(row["ignored"]) for row in recorded]
