"""Schedules of the simulator, batch by batch, against schedules recorded from vLLM V1."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import Result, simulate
from simulator.config import load_config
from tests import recorded_schedules
from tests.recorded_schedules import cases, read

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
    folder, result = replayed
    recorded = read(folder / "batches.csv.gz")
    simulated = list(result.batches())
    assert [(row[0], row[3], row[4], row[5] == "prefill") for row in simulated] == [
        (int(row["iteration"]), row["request_id"], int(row["num_tokens"]), row["is_prefill"] == "1") for row in recorded
    ]
    for position, name in ((1, "start_s"), (2, "end_s")):
        expected = np.array([float(row[name]) for row in recorded])
        assert np.abs(np.array([row[position] for row in simulated]) - expected).max(initial=0) <= TOLERANCE_S


def test_free_blocks_and_context_tokens_match_the_real_scheduler(
    replayed: tuple[Path, Result],
) -> None:
    folder, result = replayed
    recorded = read(folder / "iterations.csv.gz")
    iterations = result.replicas[0].iterations
    assert iterations["free_blocks"].tolist() == [int(row["free_blocks"]) for row in recorded]
    assert iterations["context_tokens"].tolist() == [int(row["context_tokens"]) for row in recorded]
    decided_s = np.array([float(row["schedule_s"] or "nan") for row in recorded])
    decided_s = np.where(np.isnan(decided_s), iterations["start_s"], decided_s)
    assert np.abs(iterations["schedule_s"] - decided_s).max(initial=0) <= TOLERANCE_S


def test_requests_match_the_real_engine(replayed: tuple[Path, Result]) -> None:
    folder, result = replayed
    recorded = read(folder / "result.csv")
    for name in ("first_scheduled_s", "first_token_s", "completed_s"):
        expected = np.array([float(row[name] or "nan") for row in recorded])
        assert np.array_equal(np.isnan(expected), np.isnan(result.requests[name]))
        assert np.nanmax(np.abs(result.requests[name] - expected), initial=0) <= TOLERANCE_S
    assert result.requests["num_preemptions"].tolist() == [int(row["num_preemptions"]) for row in recorded]
    assert result.requests["ignored"].tolist() == [int(row["ignored"]) for row in recorded]
