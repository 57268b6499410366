"""Doubtful results are reported by a warning on the terminal and a field of summary.json."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.__main__ import main
from simulator.capacity.__main__ import main as capacity
from tests.helpers import REPOSITORY, run_main
from traces.shared.warnings import KINDS

ROWS = "prompt_tokens,output_tokens\n" + "300,20\n" * 30
MIX = ["trace=mix", "trace.num_requests=40"]
BEYOND = "iteration time is extrapolated: "

Field = Callable[[dict[str, Any]], Any]
CASES: dict[str, tuple[list[str], str, Field]] = {
    "overload": (
        ["trace=sharegpt", "trace.num_requests=300", "arrival.qps=50", "scheduler.max_num_seqs=4"],
        "overloaded: requests arrived faster than they were served",
        lambda summary: summary["overloaded"] is True,
    ),
    "a request that can never be scheduled": (
        ["trace=csv", "trace.path=rows.csv", "kv_cache.num_blocks=10"],
        "30 requests are stuck forever. Request 0 (300 tokens) needs 19 free KV blocks and the replica "
        "has 10 in all; 29 requests wait behind it.",
        lambda summary: summary["num_stuck"] == 30,
    ),
    "requests that are too long": (
        ["trace=csv", "trace.path=rows.csv", "model.max_model_len=256"],
        "30 requests were ignored: longer than the engine admits",
        lambda summary: summary["num_ignored"] == 30,
    ),
    "the time limit": (
        ["trace=csv", "trace.path=rows.csv", "arrival.qps=100", "time_limit_s=0.2"],
        "requests were unfinished at the time limit",
        lambda summary: summary["num_unfinished"] > 0,
    ),
    "arrivals after the time limit": (
        ["trace=csv", "trace.path=rows.csv", "arrival.qps=1", "time_limit_s=5"],
        "requests would have arrived after the time limit",
        lambda summary: summary["num_not_arrived"] > 0,
    ),
    "nothing to measure": (
        ["trace=csv", "trace.path=rows.csv", "metrics.warmup_s=1e6"],
        "no request is left to measure: all arrive in the warm-up or after the time limit",
        lambda summary: summary["num_measured"] == 0,
    ),
    "rows that were left out": (
        ["trace=csv", "trace.path=broken.csv", "trace.on_error=skip"],
        "1 malformed row",
        lambda summary: summary["num_skipped_rows"] == 1,
    ),
    "lost requests": (
        ["trace=csv", "trace.path=rows.csv", "faults.schedule=[{kind:failure,at_s:5}]", "faults.on_failure=lose"],
        "requests were lost: a replica failed, and they were not sent again",
        lambda summary: summary["num_lost"] > 0 and summary["faults"]["num_failures"] == 1,
    ),
    "an SLO that is missed": (
        [*MIX, "trace.clients.chat.slo.ttft_p90=0.06", "trace.clients.chat.slo.tbt_p99=0.01"],
        "clients.chat misses its SLO: ",
        lambda summary: summary["clients"][0]["slo"]["met"] is False and summary["clients"][0]["slo"]["missed"],
    ),
    "an SLO that no request meets": (
        [*MIX, "trace.clients.chat.slo.ttft_p90=0.000001"],
        "clients.chat misses its SLO: ttft_p90; none of its requests meets every bound",
        lambda summary: summary["clients"][0]["slo"]["goodput"] == 0,
    ),
    "batches beyond the profile": (
        [
            "trace=fixed",
            "trace.prompt_tokens=140000",
            "model.max_model_len=200000",
            "scheduler=vllm",
            "trace.num_requests=2",
        ],
        BEYOND + "batches of",
        lambda summary: "batch_tokens" in summary["iteration_time"]["beyond_measured"],
    ),
    "more decodes than the profile": (
        [
            "trace=fixed",
            "trace.prompt_tokens=8",
            "trace.output_tokens=200",
            "scheduler.max_num_seqs=1000",
            "arrival.qps=1000",
            "trace.num_requests=900",
        ],
        "decodes in a batch (measured to",
        lambda summary: "num_decodes" in summary["iteration_time"]["beyond_measured"],
    ),
    "contexts beyond the profile": (
        ["trace=fixed", "trace.prompt_tokens=12000", "trace.num_requests=3"],
        "tokens of context per decode (measured to",
        lambda summary: "decode_context_tokens" in summary["iteration_time"]["beyond_measured"],
    ),
    "prompts beyond the profile": (
        ["trace=fixed", "trace.prompt_tokens=12000", "trace.num_requests=3"],
        "prompts of 12,000 tokens (measured to",
        lambda summary: "prefill_tokens" in summary["iteration_time"]["beyond_measured"],
    ),
}


@pytest.mark.parametrize(("overrides", "warning", "field"), CASES.values(), ids=CASES)
def test_each_doubtful_result_is_a_visible_warning_and_a_field(
    overrides: list[str],
    warning: str,
    field: Field,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "broken.csv").write_text(ROWS + "x,1\n")
    assert run_main(main, [*overrides, "hydra.run.dir=run"], tmp_path, monkeypatch) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert any(warning in line for line in printed), printed
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [f"warning: {text}" for text in summary["warnings"]] == printed
    assert field(summary)


def test_an_slo_that_no_rate_meets_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["trace=sharegpt", "trace.num_requests=20", "slo.tbt_p99=0.001", "hydra.run.dir=run"]
    assert run_main(capacity, arguments, tmp_path, monkeypatch) == 0
    assert "warning: every rate that was tried misses the SLO, down to " in capsys.readouterr().out
    written = json.loads((tmp_path / "run" / "capacity.json").read_text())
    assert written["capacity_qps"] == 0
    assert written["at_capacity"] is None


def test_a_run_without_doubtful_results_has_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["trace=fixed", "trace.num_requests=20", "hydra.run.dir=run"]
    assert run_main(main, arguments, tmp_path, monkeypatch) == 0
    assert "warning" not in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"] == []


def test_every_kind_is_used_and_documented() -> None:
    sources = [path for package in ("simulator", "traces") for path in (REPOSITORY / package).rglob("*.py")]
    used = {kind for path in sources for kind in re.findall(r'\bWarning\(\s*"(\w+)"', path.read_text())}
    section = (REPOSITORY / "docs" / "output.md").read_text().partition("### Warnings")[2].partition("\n[Capacity")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    documented = [kind for row in rows for kind in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(KINDS)
    assert used == set(KINDS)
