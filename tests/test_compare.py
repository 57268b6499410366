"""The compare command: runs side by side."""

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest

from simulator.compare import read_run
from tests.helpers import command as run_command
from tests.helpers import write_run

# The part of a `vllm bench serve --save-result` file that is read; times in ms.
SERVED = {
    "completed": 3,
    "request_throughput": 0.5,
    "output_throughput": 12.0,
    **{f"mean_{name}_ms": 20.0 for name in ("ttft", "tpot", "itl", "e2el")},
    **{f"median_{name}_ms": 10.0 for name in ("ttft", "tpot", "itl", "e2el")},
    **{f"p99_{name}_ms": 90.0 for name in ("ttft", "tpot", "itl", "e2el")},
}


def run(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(folder, command, *arguments)


def test_a_result_of_vllm_bench_serve_is_read_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "served.json"
    path.write_text(json.dumps(SERVED))
    measured = read_run(path)
    assert (measured.name, measured.measured, measured.num_finished) == ("served", True, 3)
    assert measured.throughputs == {"requests_per_s": 0.5, "output_tokens_per_s": 12.0}
    assert measured.latencies["tbt_s"]["p50"] == 0.01
    assert measured.latencies["tbt_s"]["p99"] == 0.09
    assert measured.latencies["e2e_s"]["mean"] == 0.02
    assert measured.latencies["ttft_s"]["p90"] is None
    assert set(measured.latencies["scheduling_delay_s"].values()) == {None}


@pytest.mark.parametrize("key", ["request_goodput", "request_goodput:"])
def test_goodput_has_rows_of_both_kinds_of_runs(key: str, tmp_path: Path) -> None:
    (tmp_path / "served.json").write_text(json.dumps(SERVED | {key: 0.4}))
    few = ("trace=sharegpt", "trace.num_requests=10", "arrival.qps=4")
    write_run(tmp_path / "run", *few, "slo.ttft=0.5")
    slo = json.loads((tmp_path / "run" / "summary.json").read_text())["slo"]
    assert 0 < slo["goodput"] < 1
    done = run(tmp_path, "simulator.compare", "served.json", "run", "output=both")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "both" / "comparison.csv", newline="") as file:
        rows = {row[0]: row[1:] for row in csv.reader(file)}
    assert rows["goodput"] == ["", str(slo["goodput"])]
    assert rows["good_requests_per_s"] == ["0.4", str(slo["goodput_qps"])]
    assert re.search(r"^goodput +- +\d+\.\d%$", done.stdout, re.MULTILINE)
    assert re.search(r"^goodput, requests/s +0\.4 ", done.stdout, re.MULTILINE)
    assert "run: goodput within TTFT <= 500 ms" in done.stdout + done.stderr


def test_latencies_of_a_detailed_result_take_precedence_over_its_statistics(tmp_path: Path) -> None:
    path = tmp_path / "served.json"
    detail = {
        "ttfts": [0.5, 1.5, 1.0, 0.0],
        "itls": [[0.1, 0.3], [0.2], [], []],
        "output_lens": [3, 2, 1, 0],  # the last request failed
        "errors": ["", "", "", "refused"],
    }
    path.write_text(json.dumps(SERVED | detail))
    measured = read_run(path)
    assert measured.latencies["ttft_s"]["p50"] == 1.0
    assert measured.latencies["ttft_s"]["max"] == 1.5
    assert measured.latencies["tbt_s"]["mean"] == pytest.approx(0.2)
    assert measured.latencies["tpot_s"]["mean"] == pytest.approx((0.2 + 0.2) / 2)
    assert measured.latencies["e2e_s"]["max"] == pytest.approx(1.7)
    assert measured.notes == ()


def test_times_without_a_unit_are_seconds(tmp_path: Path) -> None:
    content = {"request_throughput": 2.0, "completed": 40, "median_ttft": 0.25, "p99_ttft": 0.5, "median_e2el": 2.2}
    path = tmp_path / "seconds.json"
    path.write_text(json.dumps(content))
    run = read_run(path)
    assert (run.latencies["ttft_s"]["p50"], run.latencies["ttft_s"]["p99"]) == (0.25, 0.5)
    assert run.latencies["e2e_s"]["p50"] == 2.2
    assert run.notes == ("its times are stated without a unit and taken as seconds",)
    path.write_text(json.dumps({"request_throughput": 2.0, "completed": 40, "p50_latency": 3}))
    assert read_run(path).notes == ("it has no latencies whose names are known",)


PIECES = {
    "detailed": SERVED | {"ttfts": [0.5] * 3, "itls": [[0.07] * 4] * 3, "output_lens": [41] * 3},
    "one merged token in fifty": SERVED | {"ttfts": [0.5], "itls": [[0.01] * 98], "output_lens": [101]},
    "statistics": SERVED | {"mean_itl_ms": 70.0, "mean_tpot_ms": 7.0},
    "medians": {"request_throughput": 1, "median_itl": 0.07, "median_tpot": 0.007},
}


@pytest.mark.parametrize("name", PIECES)
def test_gaps_between_pieces_of_several_tokens_are_not_gaps_between_tokens(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pieces.json"
    path.write_text(json.dumps(PIECES[name]))
    measured = read_run(path)
    assert set(measured.latencies["tbt_s"].values()) == {None}
    assert measured.latencies["tpot_s"]["p50"] is not None
    assert "several tokens came at a time" in measured.notes[-1]


def test_gaps_for_nearly_every_token_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "served.json"
    path.write_text(json.dumps(SERVED | {"ttfts": [0.5], "itls": [[0.01] * 299], "output_lens": [301]}))
    assert read_run(path).latencies["tbt_s"]["p99"] == pytest.approx(0.01)
    assert read_run(path).notes == ()


def metric(value: float, unit: str) -> dict[str, float | str]:
    return {"unit": unit, "avg": value, "p50": value, "p90": 2 * value, "p99": 3 * value, "max": 4 * value}


def test_a_summary_of_aiperf_is_read(tmp_path: Path) -> None:
    content = {
        "request_throughput": {"unit": "requests/sec", "avg": 3.2},
        "request_count": {"unit": "requests", "avg": 100.0},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 131.0},
        "time_to_first_token": metric(60.0, "ms"),
        "inter_token_latency": metric(7000.0, "us"),
        "request_latency": metric(0.34, "s"),
    }
    path = tmp_path / "profile_export_aiperf.json"
    path.write_text(json.dumps(content))
    run = read_run(path)
    assert (run.measured, run.num_finished) == (True, 100)
    assert run.throughputs == {"requests_per_s": 3.2, "output_tokens_per_s": 131.0}
    assert run.latencies["ttft_s"]["p99"] == pytest.approx(0.18)
    assert run.latencies["tpot_s"]["mean"] == pytest.approx(0.007)
    assert run.latencies["e2e_s"]["max"] == pytest.approx(1.36)
    assert set(run.latencies["tbt_s"].values()) == {None}
    assert run.notes == ("AIPerf's inter_token_latency is one number per request: it is TPOT here",)
    path.write_text(json.dumps(content | {"time_to_first_token": metric(60.0, "hours")}))
    with pytest.raises(ValueError, match="time_to_first_token has the unit 'hours'"):
        read_run(path)


def test_a_stage_of_inference_perf_is_read(tmp_path: Path) -> None:
    values = {"mean": 0.05, "median": 0.04, "p90": 0.06, "p99": 0.08, "max": 0.09}
    content = {
        "load_summary": {"count": 100, "requested_rate": 5.0},
        "successes": {
            "count": 99,
            "latency": {"time_to_first_token": values, "inter_token_latency": None, "request_latency": values},
            "throughput": {"output_tokens_per_sec": 570.0, "requests_per_sec": 4.9},
        },
        "failures": {"count": 1},
    }
    path = tmp_path / "stage_0_lifecycle_metrics.json"
    path.write_text(json.dumps(content))
    run = read_run(path)
    assert (run.num_finished, run.throughputs["requests_per_s"]) == (99, 4.9)
    assert [run.latencies["ttft_s"][name] for name in ("mean", "p50", "p99")] == [0.05, 0.04, 0.08]
    assert run.latencies["e2e_s"]["max"] == 0.09
    assert set(run.latencies["tbt_s"].values()) == {None}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"request_throughput": -1}',
        '{"request_throughput": 1, "mean_ttft_ms": "x"}',
        '{"request_throughput": {"avg": "x"}}',
        '{"load_summary": {}, "successes": {"latency": 3}}',
        '{"ttft_s": 1, "scheduling_delay_s": 1}',
    ],
)
def test_a_file_that_is_not_a_run_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"x\.json") as error:
        read_run(path)
    assert "\n" not in str(error.value)


def test_the_error_names_the_formats_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(
        ValueError, match=r"none of the results that are known: .* vllm bench .* AIPerf; .* inference-perf"
    ):
        read_run(tmp_path / "x.json")


def test_runs_are_compared_side_by_side(tmp_path: Path) -> None:
    for name, scheduler in (("one", "vllm"), ("two", "sarathi")):
        done = run(
            tmp_path,
            "simulator",
            f"scheduler={scheduler}",
            "trace=fixed",
            "trace.num_requests=20",
            f"hydra.run.dir={name}",
        )
        assert done.returncode == 0, done.stderr
    (tmp_path / "served.json").write_text(json.dumps(SERVED))
    done = run(tmp_path, "simulator.compare", "served.json", "vllm=one", "two/summary.json", "output=out")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {
        row["figure"]: row for row in csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines())
    }
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert float(rows["ttft_s.p99"]["vllm"]) == summary["ttft_s"]["p99"]
    assert rows["ttft_s.p90"]["served"] == ""
    assert rows["ttft_s.p99"]["two"] != rows["ttft_s.p99"]["vllm"]
    change = summary["ttft_s"]["p99"] / 0.09 - 1
    assert f"({change:+.1%})" in done.stdout
    (tmp_path / "seconds.json").write_text('{"request_throughput": 2.0, "median_ttft": 0.25}')
    done = run(tmp_path, "simulator.compare", "seconds.json", "one", "output=out")
    assert "note: seconds: its times are stated without a unit and taken as seconds" in done.stdout
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_runs_with_the_same_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(SERVED))
    done = run(tmp_path, "simulator.compare", "x=a.json", "x=b.json")
    assert done.returncode == 2
    assert "two runs are named x" in done.stderr


def test_mistakes_are_named(tmp_path: Path) -> None:
    for arguments in (["nowhere"], ["output=x"], [str(tmp_path)]):
        done = run(tmp_path, "simulator.compare", *arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert not list(tmp_path.iterdir())
