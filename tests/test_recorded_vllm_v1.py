"""Schedules of the simulator, batch by batch, against schedules recorded from vLLM V1."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import Result, simulate
from simulator.config import load_config
from tests import recorded_schedules
from tests.recorded_schedules import cases, check_batches, check_memory, check_requests, read

TOLERANCE_S = 2e-9


def overrides_of(case: dict[str, Any], requests: Path) -> list[str]:
    """Return the overrides that replay a recorded case."""
    options = dict(case["options"])
    caching = str(options.pop("enable_prefix_caching")).lower()
    return [
        *recorded_schedules.overrides_of(case, requests),
        *(f"scheduler.{name}={json.dumps(value)}" for name, value in options.items() if not isinstance(value, str)),
        f"scheduler.policy={options['policy']}",
        f"kv_cache.prefix_caching={caching}",
    ]


@pytest.fixture(params=cases("golden_vllm_v1"), scope="module")
def replayed(request: pytest.FixtureRequest) -> tuple[Path, Result]:
    folder = request.param
    case = json.loads((folder / "case.json").read_text())
    overrides = overrides_of(case, folder / "requests.csv")
    if case["summary"]["truncated"]:  # the run would go on forever
        last_s = read(folder / "batches.csv.gz")[-1]["start_s"]
        overrides.append(f"time_limit_s={float(last_s) + TOLERANCE_S}")
    return folder, simulate(**load_config(*overrides))


def test_batches_match_the_real_scheduler(replayed: tuple[Path, Result]) -> None:
    check_batches(*replayed, TOLERANCE_S)


def test_free_blocks_and_context_tokens_match_the_real_scheduler(replayed: tuple[Path, Result]) -> None:
    check_memory(*replayed)


def test_decisions_are_taken_when_the_real_scheduler_takes_them(replayed: tuple[Path, Result]) -> None:
    folder, result = replayed
    recorded, iterations = read(folder / "iterations.csv.gz"), result.replicas[0].iterations
    decided_s = np.array([float(row["schedule_s"] or "nan") for row in recorded])
    decided_s = np.where(np.isnan(decided_s), iterations["start_s"], decided_s)
    assert np.abs(iterations["schedule_s"] - decided_s).max(initial=0) <= TOLERANCE_S


def test_requests_match_the_real_engine(replayed: tuple[Path, Result]) -> None:
    check_requests(*replayed, TOLERANCE_S)
