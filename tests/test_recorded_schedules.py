"""Schedules of the simulator, batch by batch, against schedules recorded from the real engine."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import Result, simulate
from simulator.config import load_config
from tests import recorded_schedules
from tests.recorded_schedules import cases, read

TOLERANCE_S = 1e-6


def overrides_of(case: dict[str, Any], requests: Path) -> list[str]:
    """Return the overrides that replay a recorded case."""
    options = case["options"]
    overrides = recorded_schedules.overrides_of(case, requests)
    if case["scheduler"] == "sarathi":
        overrides.append(f"scheduler.token_budget={options['chunk_size']}")
        if options.get("enable_dynamic_chunking_schedule"):
            names = {
                "stages": "chunk_schedule_stages",
                "low": "low_chunk_size",
                "high": "high_chunk_size",
                "max_tokens": "chunk_schedule_max_tokens",
            }
            overrides += [f"scheduler.dynamic_chunks.{ours}={options[theirs]}" for ours, theirs in names.items()]
    if case["scheduler"] == "vllm":
        budget = options["max_num_batched_tokens"]
        overrides.append(f"scheduler.max_num_batched_tokens={'null' if budget is None else budget}")
    return overrides


@pytest.fixture(params=cases("golden"), scope="module")
def replayed(request: pytest.FixtureRequest) -> tuple[Path, Result]:
    folder = request.param
    case = json.loads((folder / "case.json").read_text())
    return folder, simulate(**load_config(*overrides_of(case, folder / "requests.csv")))


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


def test_requests_match_the_real_engine(replayed: tuple[Path, Result]) -> None:
    folder, result = replayed
    recorded = read(folder / "result.csv")
    for name in ("first_scheduled_s", "first_token_s", "completed_s"):
        expected = np.array([float(row[name] or "nan") for row in recorded])
        assert np.array_equal(np.isnan(expected), np.isnan(result.requests[name]))
        assert np.nanmax(np.abs(result.requests[name] - expected), initial=0) <= TOLERANCE_S
    assert result.requests["num_preemptions"].tolist() == [int(row["num_preemptions"]) for row in recorded]
    assert result.requests["ignored"].tolist() == [int(row["ignored"]) for row in recorded]
    stuck = sum(row["completed_s"] == "" and row["ignored"] == "0" for row in recorded)
    assert result.summary["num_stuck"] == stuck
