"""Experiments and published numbers of the paper."""

import csv
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from simulator.reproduce import published as paper
from simulator.reproduce.figures import FIGURES, Row, complete, plan
from simulator.reproduce.report import reversals, verdict
from tests.helpers import SHARED, command, needs_shared


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "simulator.reproduce", *arguments)


def shared(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((SHARED / "data" / "paper" / name).read_text().splitlines()))


@needs_shared
def test_the_published_capacities_match_the_figures() -> None:
    rows = shared("capacity_fig10_11.csv")
    assert len(rows) == len(paper.CAPACITIES) == 16
    for row in rows:
        cell = row["model"], row["dataset"], row["slo"]
        assert paper.CAPACITIES[cell] == tuple(float(row[f"{name}_qps"]) for name in paper.SCHEDULERS)
        assert paper.SPEEDUPS[cell][0] == float(row["printed_label_sarathi_over_orca"])


@needs_shared
def test_the_other_published_numbers_match_the_figures() -> None:
    for row in shared("fig12.csv"):
        values = tuple(float(row[name]) for name in ("vllm32", "vllm64", "vllm128", "sarathi512", "sarathi2048"))
        assert paper.FIGURE_12[row["model"]][float(row["p99_tbt_slo_s"])] == values
    for row in shared("fig9.csv"):
        values = tuple(float(row[f"decode_{name}_ms"]) for name in ("only", "plus_chunk", "plus_full"))
        assert paper.FIGURE_9[row["model"].split()[0]][int(row["batch"]), int(row["context"])] == values


def test_every_figure_is_planned_with_the_papers_settings() -> None:
    rows = {figure: plan(figure, ()) for figure in FIGURES}
    assert sum(len(rows[figure]) for figure in ("10", "11")) == 48
    for planned in [*rows["10"], *rows["11"]]:
        (overrides,) = planned.job.arguments
        chat = planned.row.trace == paper.CHAT
        assert f"model.max_model_len={8192 if chat else 16384}" in overrides
        assert f"slo=paper_{planned.row.slo}" in overrides
    assert plan("9", ["seed=3"], seeds=5)[0].job.arguments[0][-1] == "seed=3"
    assert plan("10", ["seed=3"], seeds=5)[0].job.arguments[0][-2:] == ("seed=3", "capacity.seeds=5")


def test_differences_within_the_papers_resolution_are_zero() -> None:
    row = Row("10", "m", "t", "strict", "vllm", "capacity_qps", paper=0.2, simulated=0.21)
    assert row.difference == 0
    assert replace(row, simulated=0.22).difference == pytest.approx(0.1)
    assert replace(row, metric="tbt_p99_s").difference == pytest.approx(0.05)


def test_the_verdict_counts_speed_ups_and_reversals() -> None:
    planned = plan("10", ())
    same = complete(planned, {run.job: {"capacity_qps": run.row.paper} for run in planned})
    assert "median absolute difference 0.0%" in verdict(same)[0]
    assert "within 20% in 8 of 8" in verdict(same)[1]
    assert "none" in verdict(same)[2]
    reversed_rows = [replace(row, simulated=0.1) if row.scheduler == "sarathi" else row for row in same]
    texts = reversals([row for row in reversed_rows if row.metric == "capacity_qps"])
    assert len(texts) == 16
    assert "sarathi below vllm (Mistral-7B, openchat_sharegpt4, strict)" in texts


@pytest.mark.slow
def test_the_command_writes_every_number_and_a_picture(tmp_path: Path) -> None:
    done = run(tmp_path, "figure=5,6,9,14", "output=out")
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader((tmp_path / "out" / "reproduction.csv").read_text().splitlines()))
    assert list(rows[0]) == [
        *("figure", "model", "trace", "slo", "scheduler", "metric", "paper", "simulated"),
        "difference",
    ]
    assert [sum(row["figure"] == figure for row in rows) for figure in ("5", "6", "9", "14")] == [3, 18, 54, 21]
    assert all(float(row["simulated"]) > 0 for row in rows)
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pictures == ["figure_14.png", "figure_5.png", "figure_6.png", "figure_9.png"]
    # Hybrid batches, to which nothing is fitted.
    differences = sorted(abs(float(row["difference"])) for row in rows if row["figure"] == "9")
    assert differences[len(differences) // 2] < 0.1


MISTAKES = [
    ["figure=7"],
    ["table=1"],
    ["everything"],
    [],
    ["figure=5", "bla=1"],
    ["figure=6", "model=yi_34b"],
    ["all", "workers=0"],
]


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_named(arguments: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
