"""Schedules of the simulator, batch by batch, against schedules recorded from the real engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator import Result, simulate
from simulator.config import load_config
from tests import recorded_schedules
from tests.recorded_schedules import cases, check_batches, check_memory, check_requests, read

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
    check_batches(*replayed, TOLERANCE_S)


def test_free_blocks_and_context_tokens_match_the_real_scheduler(replayed: tuple[Path, Result]) -> None:
    check_memory(*replayed)


def test_requests_match_the_real_engine(replayed: tuple[Path, Result]) -> None:
    check_requests(*replayed, TOLERANCE_S)
    folder, result = replayed
    recorded = read(folder / "result.csv")
    stuck = sum(row["completed_s"] == "" and row["ignored"] == "0" for row in recorded)
    assert result.summary["num_stuck"] == stuck
