"""The largest token budget within the TBT bound, and the budget of the highest capacity."""

import csv
import json
from pathlib import Path

import pytest

from simulator.replica import Batch
from simulator.token_budget.curve import IterationLoad, largest_budget, measure
from simulator.token_budget.maximize import best_budget
from tests.helpers import command


def tiled_time(batch: Batch) -> list[float]:
    """Return 10 ms for each tile, begun or full, plus 1 us for each context token."""
    tokens = batch.num_prefill_tokens + batch.num_decodes
    cached = batch.decode_context_tokens + batch.prefill_context_tokens
    return [0.01 * -(-tokens // 128) + 1e-6 * cached]


def test_the_largest_budget_ends_at_the_last_tile_within_the_bound() -> None:
    curve = measure(tiled_time, IterationLoad([(32, 100)], 0), tile=128, max_tokens=1024)
    assert min(curve) == 32
    assert {128, 256, 1024} <= set(curve)
    # The decodes take 3.2 ms, so three tiles take 33.2 ms.
    assert largest_budget(curve, 0.0332001, 128) == 384
    assert largest_budget(curve, 0.0331, 128) == 256
    assert largest_budget(curve, 0.0132, 128) == 128
    assert largest_budget(curve, 0.0131, 128) is None
    assert largest_budget(curve, 1.0, 128) == 1024


def test_every_iteration_up_to_the_budget_is_within_the_bound() -> None:
    # Times rise and fall again on some devices: 256 tokens are within the bound, 192 are not.
    curve = {1: 0.01, 128: 0.01, 192: 0.05, 256: 0.02}
    assert largest_budget(curve, 0.03, 128) == 128


def test_prefill_takes_the_budget_that_decodes_leave() -> None:
    load = IterationLoad([(30, 1000), (2, 5000)], 4096)
    batch = load.batch(512)
    assert (batch.num_decodes, batch.num_prefill_tokens) == (32, 480)
    assert (batch.decode_context_tokens, batch.prefill_context_tokens) == (40_000, 4096)
    assert load.batch(32).chunks == []


@pytest.mark.parametrize("peak", [128, 384, 640, 1408, 8192])
def test_the_budget_of_the_highest_capacity_is_found(peak: int) -> None:
    tried: list[int] = []

    def capacity(budget: int) -> float:
        tried.append(budget)
        return 10 - abs(budget - peak) / 1000

    capacities = best_budget(capacity, 128, 8192)
    assert max(capacities, key=lambda budget: capacities[budget]) == peak
    assert list(capacities) == sorted(capacities)
    assert len(tried) == len(set(tried)) < 24


def test_the_command_writes_the_curve_and_the_budget(tmp_path: Path) -> None:
    arguments = ["slo.tbt_p99=0.1", "trace=fixed", "trace.num_requests=40", "token_budget.max_tokens=1024"]
    more = ("token_budget.maximize_capacity=true", "hydra.run.dir=out")
    done = command(tmp_path, "simulator.token_budget", *arguments, *more)
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads((tmp_path / "out" / "token_budget.json").read_text())
    curve = {
        int(row["tokens"]): float(row["iteration_s"])
        for row in csv.DictReader((tmp_path / "out" / "token_budget.csv").read_text().splitlines())
    }
    budget = written["token_budget"]
    assert budget % 128 == 0
    assert all(seconds <= 0.1 for tokens, seconds in curve.items() if tokens <= budget)
    assert any(seconds > 0.1 for tokens, seconds in curve.items() if tokens <= budget + 128)
    assert (tmp_path / "out" / "token_budget.png").read_bytes().startswith(b"\x89PNG")
    tried = list(csv.DictReader((tmp_path / "out" / "capacity_by_budget.csv").read_text().splitlines()))
    assert written["capacity_qps"] == max(float(row["capacity_qps"]) for row in tried)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("token_budget.tile=0", "token_budget.tile"),
        ("token_budget.max_tokens=5", "token_budget.max_tokens"),
        ("token_budget.decode=[[9000,10]]", "token_budget.decode"),
        ("token_budget.decode=3", "token_budget.decode"),
        ("token_budget.maximize_capacity=maybe", "token_budget.maximize_capacity"),
        ("slo.ttft_p99=1", "no bound on the TBT"),
        ("token_budget.prefill_context=99999", "token_budget.prefill_context"),
    ],
)
def test_mistakes_are_named(override: str, named: str, tmp_path: Path) -> None:
    done = command(tmp_path, "simulator.token_budget", "token_budget.maximize_capacity=true", override)
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
