"""Batch by batch against schedules recorded from the real engine's schedulers."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator import Result, simulate
from simulator.config import load_config
from tests import golden
from tests.golden import read
from tests.helpers import SHARED, needs_shared

GOLDEN = SHARED / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir()) if GOLDEN.is_dir() else ["absent"]
TOLERANCE_S = 1e-6


def overrides_of(case: dict[str, Any], requests: Path) -> list[str]:
    """The command line that replays a recorded case."""
    options = case["options"]
    overrides = golden.overrides_of(case, requests)
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


@pytest.fixture(params=CASES, scope="module")
def replayed(request: pytest.FixtureRequest) -> tuple[Path, Result]:
    folder = GOLDEN / request.param
    if not folder.is_dir():
        pytest.skip("the recorded schedules are not here")
    case = json.loads((folder / "case.json").read_text())
    return folder, simulate(**load_config(*overrides_of(case, folder / "requests.csv")))


@needs_shared
def test_batches_are_those_of_the_real_scheduler(replayed: tuple[Path, Result]) -> None:
    folder, result = replayed
    recorded = read(folder / "batches.csv.gz")
    simulated = list(result.batches())
    assert [(row[0], row[3], row[4], row[5] == "prefill") for row in simulated] == [
        (int(row["iteration"]), row["request_id"], int(row["num_tokens"]), row["is_prefill"] == "1") for row in recorded
    ]
    for row, times in zip(simulated, recorded, strict=True):
        assert row[1] == pytest.approx(float(times["start_s"]), rel=0, abs=TOLERANCE_S)
        assert row[2] == pytest.approx(float(times["end_s"]), rel=0, abs=TOLERANCE_S)


@needs_shared
def test_memory_and_context_after_each_decision_are_those_of_the_real_scheduler(
    replayed: tuple[Path, Result],
) -> None:
    folder, result = replayed
    recorded = read(folder / "iterations.csv.gz")
    iterations = result.replicas[0].iterations
    assert iterations["free_blocks"].tolist() == [int(row["free_blocks"]) for row in recorded]
    assert iterations["context_tokens"].tolist() == [int(row["context_tokens"]) for row in recorded]


@needs_shared
def test_requests_fare_as_in_the_real_engine(replayed: tuple[Path, Result]) -> None:
    folder, result = replayed
    recorded = read(folder / "result.csv")
    for name in ("first_scheduled_s", "first_token_s", "completed_s"):
        for value, row in zip(result.requests[name], recorded, strict=True):
            expected = float(row[name]) if row[name] else float("nan")
            assert value == pytest.approx(expected, rel=0, abs=TOLERANCE_S, nan_ok=True)
    assert result.requests["num_preemptions"].tolist() == [int(row["num_preemptions"]) for row in recorded]
    assert result.requests["ignored"].tolist() == [int(row["ignored"]) for row in recorded]
    stuck = sum(row["completed_s"] == "" and row["ignored"] == "0" for row in recorded)
    assert result.summary["num_stuck"] == stuck
