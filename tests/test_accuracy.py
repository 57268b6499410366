"""`python -m simulator.accuracy`: sets are read, simulated and compared."""

import csv
import json
from pathlib import Path

import pytest

from simulator.accuracy import Point, Skipped, compare
from simulator.accuracy.mlperf import points as mlperf_points
from simulator.accuracy.silicon_sample import points as silicon_points
from simulator.accuracy.vllm_bench import points as bench_points
from tests.helpers import SHARED, command, needs_shared

HEADER = (
    "backend,system,model_path,backend_version,gemm_quant_mode,tp_size,isl,osl,batch_size,mode,silicon_ttft_ms,"
    "silicon_tpot_ms,silicon_data_source"
)
ROWS = (
    "vllm,h100_sxm,Qwen/Qwen3-32B,0.12.0,,2.0,64,8,2.0,agg,40.0,15.0,a.csv; silicon_concurrency=2",
    "vllm,h100_sxm,Qwen/Qwen3-32B,0.12.0,,2.0,64,8,2.0,agg,40.0,15.0,b.csv; silicon_concurrency=2",  # again
    "vllm,h100_sxm,Qwen/Qwen3-32B,0.12.0,,2.0,65,8,2.0,agg,40.0,15.0,a.csv",
    "vllm,h100_sxm,Qwen/Qwen3-32B,0.12.0,,2.0,8000,8,64,agg,40.0,15.0,fast.csv; silicon_concurrency=64",
    "vllm,h100_sxm,Qwen/Qwen3-32B,0.12.0,,2.0,66,8,1,agg,40.0,15.0,fast.csv; silicon_concurrency=1",
    "vllm,h100_sxm,openai/gpt-oss-120b,0.18.0,nvfp4,2.0,64,8,2.0,agg,40.0,5.0,a.csv; silicon_concurrency=2",
    "sglang,h100_sxm,Qwen/Qwen3-32B,0.5,,2.0,64,8,2.0,agg,40.0,15.0,a.csv; silicon_concurrency=2",
)


def write_sample(folder: Path) -> Path:
    folder.mkdir()
    (folder / "silicon_sample.csv").write_text("\n".join((HEADER, *ROWS)) + "\n")
    return folder


def test_rows_that_cannot_be_compared_are_left_out_and_named(tmp_path: Path) -> None:
    points = list(silicon_points(write_sample(tmp_path / "truth")))
    (point,) = [point for point in points if isinstance(point, Point)]
    assert (point.load, point.layout, point.measured) == ("2 users, 64 + 8 tokens", "TP2", {"tpot_s.mean": 0.015})
    assert "arrival.users=2" in point.overrides
    assert points[1:] == [
        Skipped("no model openai/gpt-oss-120b", 1),
        Skipped("the concurrency or the number format is not stated", 1),
        Skipped("the file has rows that need over 70% of the peak matrix rate", 2),
    ]


def test_the_command_simulates_prints_and_writes_a_file_per_set(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "truth")
    done = command(tmp_path, "simulator.accuracy", str(folder), "output=out")
    assert done.returncode == 0
    assert "no model openai/gpt-oss-120b" in done.stdout
    (row,) = csv.DictReader((tmp_path / "out" / "silicon_sample.csv").read_text().splitlines())
    predicted, measured = float(row["predicted_ms"]), float(row["measured_ms"])
    assert measured == 15.0
    assert float(row["error"]) == pytest.approx(predicted / measured - 1, abs=1e-3)
    assert 10 < predicted < 20


def test_results_of_vllm_bench_serve_are_simulated_at_their_load(tmp_path: Path) -> None:
    content = {
        "request_throughput": 2.0, "completed": 10, "total_input_tokens": 5000, "total_output_tokens": 200,
        "request_rate": 4.0, "burstiness": 1.0, "mean_ttft_ms": 40.0, "median_ttft_ms": 39.0, "mean_tpot_ms": 8.0,
        "model_id": "llama",
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(content))
    (tmp_path / "other.json").write_text("{}")
    deployment = ("model=llama3_8b", "device=h100_sxm", "scheduler=vllm_v1")
    point, skipped = bench_points(tmp_path, deployment)
    assert isinstance(point, Point)
    assert {"arrival.qps=4.0", "arrival.cv=1", "trace.prompt_tokens=500"} <= set(point.overrides)
    assert point.measured == {"ttft_s.mean": 0.04, "ttft_s.p50": 0.039, "tpot_s.mean": 0.008}
    comparison = compare(point)
    assert set(comparison.predicted) == set(point.measured)
    assert skipped == Skipped("not a result of vllm bench serve", 1)


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (
            {"request_rate": 4.0, "max_concurrency": 8},
            {"arrival=gamma", "arrival.qps=4.0", "arrival.max_concurrency=8"},
        ),
        ({"request_rate": "inf", "max_concurrency": 8}, {"arrival=closed_loop", "arrival.users=8"}),
        ({"request_rate": "inf"}, {"arrival=constant", "arrival.qps=inf"}),
        ({"request_rate": 4.0}, {"arrival=gamma", "arrival.qps=4.0", "arrival.cv=1"}),
    ],
)
def test_the_load_of_a_result_is_its_rate_and_its_concurrency_limit(
    load: dict[str, object], expected: set[str], tmp_path: Path
) -> None:
    content = {"request_throughput": 2.0, "completed": 10, "total_input_tokens": 5000, "total_output_tokens": 200}
    (tmp_path / "run.json").write_text(json.dumps(content | load))
    (point,) = bench_points(tmp_path, ())
    assert isinstance(point, Point)
    assert expected <= set(point.overrides)


def test_a_result_without_a_load_is_refused(tmp_path: Path) -> None:
    content = {"request_throughput": 2.0, "completed": 10, "total_input_tokens": 5000, "total_output_tokens": 200}
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"run.json: neither a request_rate nor a max_concurrency is stated"):
        list(bench_points(tmp_path, ()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["model=llama3_8b"], "describes the deployment of bench=FOLDER"),
        (["."], "there is no point to simulate"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = command(tmp_path, "simulator.accuracy", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@needs_shared
def test_logs_of_mlperf_under_vllm_are_points_with_percentiles() -> None:
    points = [point for point in mlperf_points(SHARED / "data") if isinstance(point, Point)]
    assert [(point.device, point.measured["tpot_s.mean"]) for point in points] == [
        ("l40s", pytest.approx(0.048338)),
        ("h100_sxm", pytest.approx(0.023113)),
    ]
