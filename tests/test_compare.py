"""The compare command: runs side by side."""

import csv
import json
import subprocess
from pathlib import Path

import pytest

from simulator.compare import ReadError, read_run
from tests.helpers import command as run_command

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


def test_latencies_of_a_detailed_result_take_precedence_over_its_statistics(tmp_path: Path) -> None:
    path = tmp_path / "served.json"
    detail = {
        "ttfts": [0.5, 1.5, 1.0, 0.0],
        "itls": [[0.1, 0.3], [0.2], [], []],
        "output_lens": [5, 2, 1, 0],  # the first request got several tokens at once; the last one failed
        "errors": ["", "", "", "refused"],
    }
    path.write_text(json.dumps(SERVED | detail))
    measured = read_run(path)
    assert measured.latencies["ttft_s"]["p50"] == 1.0
    assert measured.latencies["ttft_s"]["max"] == 1.5
    assert measured.latencies["tbt_s"]["mean"] == pytest.approx(0.2)
    assert measured.latencies["tpot_s"]["mean"] == pytest.approx((0.1 + 0.2) / 2)
    assert measured.latencies["e2e_s"]["max"] == pytest.approx(1.7)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"request_throughput": 1}', '{"ttft_s": 1, "scheduling_delay_s": 1}']
)
def test_a_file_that_is_not_a_run_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ReadError, match=r"x\.json") as error:
        read_run(path)
    assert "\n" not in str(error.value)


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
