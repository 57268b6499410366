"""What a run simulated, in words."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from simulator.output import heading, load_summary, title
from tests.helpers import command
from traces.shared.terminal import facts, new_table, show

QUICK = ("trace=fixed", "trace.num_requests=20", "iteration_time=affine", "hydra.run.dir=run")


def lines_of(*parts: Any, width: int = 80) -> list[str]:
    file = io.StringIO()
    show(Console(file=file, width=width), *parts)
    return file.getvalue().splitlines()


def test_the_first_lines_say_what_was_simulated(tmp_path: Path) -> None:
    arguments = ("deployment=vllm_v1_llama3_8b_h100", "arrival.qps=2", "seed=7", *QUICK[:2], QUICK[3])
    done = command(tmp_path, "simulator", *arguments)
    assert done.stdout.splitlines()[:4] == [
        "model         llama3_8b, bf16, KV cache bf16, up to 16,384 tokens",
        "deployment    1 x h100_sxm TP1",
        "scheduler     vllm_v1, 8,192 tokens, 1,024 sequences",
        "engine        vllm_v1, kernels of vllm 0.25.0",
    ]
    load = done.stdout.splitlines()[4]
    assert load.startswith("load          fixed, 20 requests, ")
    assert load.endswith(", seed 7")
    assert all(line == line.rstrip() for line in done.stdout.splitlines())
    summary = load_summary(tmp_path / "run")
    rate = summary["arrivals_per_s"]
    assert abs(rate / 2 - 1) > 0.05
    assert f"{rate:.4g} requests/s of 2 asked (poisson), {summary['requests_per_s']:.4g} served" in load
    assert (
        title(summary) == f"llama3_8b, 1 x h100_sxm TP1, vllm_v1 8,192 tokens, fixed, {rate:.3g} requests/s of 2 asked"
    )


def test_groups_of_different_replicas_are_all_named(tmp_path: Path) -> None:
    groups = "cluster.groups=[{device: a40, replicas: 2}, {parallel: {tp: 2, pp: 2}, scheduler: orca}]"
    command(tmp_path, "simulator", groups, *QUICK)
    lines = heading(load_summary(tmp_path / "run"))
    assert lines["deployment"] == "2 x a40 TP1 + 1 x a100_80gb TP2 PP2"
    assert lines["scheduler"] == "Sarathi, 512 tokens, 128 sequences + Orca, 16 sequences"
    assert lines["engine"] == "sarathi_serve, affine"


@pytest.mark.parametrize(
    ("weights", "cache", "shown"),
    [
        ("bf16", "fp16", "bf16, KV cache bf16"),
        ("fp16", "bf16", "fp16, KV cache fp16"),
        ("bf16", "fp8", "bf16, KV cache fp8"),
        ("fp8", "fp16", "fp8, KV cache 16-bit"),
    ],
)
def test_a_kv_cache_in_half_precision_has_the_format_of_the_model(weights: str, cache: str, shown: str) -> None:
    model = {"name": "m", "dtype": weights, "max_model_len": 100}
    parts = {"parallel": {"tp": 1, "pp": 1}, "device": {"name": "d"}, "scheduler": {"class": "Sarathi"}}
    group = {"model": model, "kv_cache": {"dtype": cache}, "replicas": 1, "kernels": "", **parts}
    assert heading({"groups": [group]})["model"] == f"m, {shown}, up to 100 tokens"


def test_a_limit_and_the_asked_rate_are_beside_the_measured_one(tmp_path: Path) -> None:
    command(tmp_path, "simulator", "arrival=constant", "arrival.qps=20", "arrival.max_concurrency=8", *QUICK)
    summary = load_summary(tmp_path / "run")
    rate = summary["arrivals_per_s"]
    assert rate < 19
    assert f"{rate:.4g} requests/s of 20 asked (constant), at most 8 in flight, " in heading(summary)["load"]
    assert title(summary).endswith(f", {rate:.3g} requests/s of 20 asked, at most 8 in flight")


def test_a_rate_that_is_met_is_shown_once(tmp_path: Path) -> None:
    command(tmp_path, "simulator", "arrival=constant", "arrival.qps=2", *QUICK)
    assert "20 requests, 2 requests/s (constant), " in heading(load_summary(tmp_path / "run"))["load"]


def test_a_closed_loop_has_users_and_no_rate(tmp_path: Path) -> None:
    command(tmp_path, "simulator", "arrival=closed_loop", *QUICK)
    summary = load_summary(tmp_path / "run")
    served = f"{summary['requests_per_s']:.4g} requests/s served"
    assert heading(summary)["load"] == f"fixed, 20 requests, 8 users (closed_loop), {served}, seed 0"
    assert title(summary).endswith(", fixed, 8 users")


def test_a_file_is_named_as_the_trace(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("prompt_tokens,output_tokens\n10,2\n")
    command(tmp_path, "simulator", "trace=file", "trace.path=mine.csv", *QUICK[2:])
    assert heading(load_summary(tmp_path / "run"))["load"].startswith("mine.csv, 1 request, ")


@pytest.mark.parametrize("module", ["simulator.capacity", "simulator.token_budget"])
def test_other_commands_begin_with_the_same_lines(tmp_path: Path, module: str) -> None:
    done = command(tmp_path, module, "trace.num_requests=20", "slo.tbt_p99=0.2", "hydra.run.dir=out")
    model, deployment, scheduler = (line.split(maxsplit=1) for line in done.stdout.splitlines()[:3])
    assert (model[0], deployment) == ("model", ["deployment", "1 x a100_80gb TP1"])
    assert scheduler == ["scheduler", "sarathi, 512 tokens, 128 sequences"]


def test_tables_have_no_trailing_blanks_and_pipes_cut_nothing_off() -> None:
    table = new_table(["name", *(f"column {number}" for number in range(12))])
    table.add_row("first", *["1,234.5"] * 12)
    lines = lines_of(facts({"a": "b", "long label": "c"}), "", table)
    assert lines[:3] == ["a           b", "long label  c", ""]
    assert lines[-1].count("1,234.5") == 12
    assert all(line == line.rstrip() for line in lines)
