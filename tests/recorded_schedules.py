"""Recorded schedules of real engines: their folders, the overrides that replay a case, and a reader of its files."""

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

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
