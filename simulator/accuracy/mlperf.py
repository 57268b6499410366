"""Open loops of vLLM in the logs of MLPerf Inference v5.1.

Closed division, scenario Server.

Source: mlcommons/inference_results_v5.1, Apache-2.0. Arrivals are Poisson; the logs have percentiles of TTFT and TPOT.
"""

from collections.abc import Iterator
from pathlib import Path

from simulator.accuracy.points import Point, Skipped, number, read_rows

FILE = "mlperf_v5.1_llm.csv"
WHERE = (
    "a table of the logs mlperf_log_summary.txt in github.com/mlcommons/inference_results_v5.1, with the columns "
    "model, accelerator, n_gpu, dtype, software, scenario, samples_s, target_qps, ttft_* and tpot_*"
)
NAME = "MLPerf v5.1"
DEVICES = {"NVIDIA H100-SXM-80GB": "h100_sxm", "NVIDIA L40S": "l40s"}
# The logs have no lengths of prompts: articles of CNN-DailyMail, 778 tokens on average
# (mlcommons.org/2025/09/small-llm-inference-5-1), assumed log-normal; every answer has 128 tokens (tok_s / samples_s).
LENGTHS = (
    "trace=lognormal",
    "trace.prompt.median=697",
    "trace.prompt.sigma=0.47",
    "trace.output.median=128",
    "trace.output.sigma=0.001",
    "trace.max_total_tokens=2700",
    "trace.num_requests=8000",
)
_METRICS = {"ttft_s": "ttft", "tpot_s": "tpot"}
_STATISTICS = ("mean", "p50", "p90", "p99")
_MEASURED = {
    f"{metric}.{statistic}": f"{column}_{statistic}" for metric, column in _METRICS.items() for statistic in _STATISTICS
}
_COLUMNS = ("model", "accelerator", "n_gpu", "dtype", "software", "scenario", "target_qps", *_MEASURED.values())


def points(folder: Path) -> Iterator[Point | Skipped]:
    """Yield the points of the set, and what is left out.

    Raises:
        ValueError: The file is not such a file.
    """
    missing = 0
    for line, row in enumerate(read_rows(folder / FILE, *_COLUMNS), 2):
        if row["scenario"] != "Server" or "vLLM" not in row["software"]:
            continue
        known = row["model"] == "llama3.1-8b" and row["accelerator"] in DEVICES and row["n_gpu"] == "1"
        if known:
            yield _point(row, f"{folder / FILE}, row {line}")
        else:
            missing += 1
    if missing:
        yield Skipped("a model, an accelerator or a number of replicas that is not simulated", missing)


def _point(row: dict[str, str], where: str) -> Point:
    qps = number(row, "target_qps", where)
    device = DEVICES[row["accelerator"]]
    return Point(
        dataset=NAME,
        model=f"Llama-3.1-8B {row['dtype']}",
        device=device,
        layout="TP1",
        engine=row["software"].partition(",")[0],
        load=f"{qps:g} requests/s, 778 + 128 tokens",
        overrides=(
            "model=llama3_8b",
            f"model.dtype={row['dtype']}",
            "model.max_model_len=2701",
            f"device={device}",
            "scheduler=vllm_v1",
            "engine=vllm_v1_sync",
            *LENGTHS,
            f"arrival.qps={qps}",
        ),
        measured={metric: number(row, column, where) * 1e-3 for metric, column in _MEASURED.items()},
    )
