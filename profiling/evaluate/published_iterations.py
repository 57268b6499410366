"""Whole iterations, predicted from fitted operators, against published measurements.

Nothing but the launch time of a layer (`profiling.fit.kernel_launches`) is fitted to these measurements. Reads a folder
with `splitwise/perf_model.csv`, `sarathi_serve/*.csv` and `published/trtllm_v05_v06_perf.csv`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from profiling.tables import read_columns
from simulator.config import load_config
from simulator.iteration_time import LINEAR_OPERATORS, PUBLISHED_LINEAR_MS, StageTimes
from simulator.replica import Batch

MS = 1e-3
# Context tokens of the decodes in the published iterations, as their authors state.
SARATHI_CONTEXT = 1020
# Generated tokens that Splitwise's token times are averaged over.
SPLITWISE_TOKENS = 128


@dataclass(frozen=True)
class Case:
    """One published time and its prediction.

    Attributes:
        dataset: Publication and kind of iteration.
        case: Name of the case in its dataset.
        measured_s: Published time, seconds.
        predicted_s: Predicted time, seconds.
    """

    dataset: str
    case: str
    measured_s: float
    predicted_s: float


def cases(folder: Path) -> Iterator[Case]:
    """Yield every published time and its prediction.

    Raises:
        ValueError: A file is missing or lacks a column.
    """
    yield from _splitwise(folder / "splitwise" / "perf_model.csv")
    yield from _sarathi_serve(folder / "sarathi_serve")
    yield from _tensorrt_llm(folder / "published" / "trtllm_v05_v06_perf.csv")
    yield from _figure_6()


def summary(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of each dataset, per cent.

    Returns:
        Columns dataset, median and p95 (absolute errors), bias (median signed error), num_rows.
    """
    error = (cases["predicted_s"] / cases["measured_s"] - 1) * 100
    grouped = pd.DataFrame({"dataset": cases["dataset"], "error": error}).groupby("dataset", sort=False)["error"]
    return pd.DataFrame(
        {
            "median": grouped.apply(lambda errors: errors.abs().median()),
            "p95": grouped.apply(lambda errors: errors.abs().quantile(0.95)),
            "bias": grouped.median(),
            "num_rows": grouped.size(),
        }
    ).reset_index()


def stage_times(*overrides: str) -> StageTimes:
    """Return the stage times of a configuration."""
    deployment = load_config(*overrides, "kv_cache.num_blocks=1", "trace.num_requests=1")["deployment"]
    times: StageTimes = deployment.stage_times()
    return times


def linear_time(times: StageTimes, num_tokens: int) -> float:
    """Predict the seconds of the linear layers on one GPU, all layers."""
    assert times.operators is not None
    operators = times.operators(Batch.of([(num_tokens, 0)], []), 0)
    return sum(
        operator.seconds_per_layer * operator.layers for operator in operators if operator.name in LINEAR_OPERATORS
    )


def _splitwise(path: Path) -> Iterator[Case]:
    keys = ["hardware", "tensor_parallel", "batch_size", "prompt_size"]
    table = read_columns(path, *keys, "model", "token_size", "prompt_time", "token_time")
    table = table[(table["model"] == "llama2-70b") & (table["token_size"] == SPLITWISE_TOKENS)]
    alone = table[(table["batch_size"] == 1) & table["prompt_size"].between(512, 4096)]
    together = table[(table["prompt_size"] == 512) & (table["batch_size"] > 1)]
    together = together[~((together["tensor_parallel"] == 2) & (together["batch_size"] == 64))]  # broken rows
    for hardware, device in (("a100-80gb", "a100_80gb_sxm"), ("h100-80gb", "h100_sxm")):
        for degree in (2, 4, 8):
            times = stage_times("model=llama2_70b", f"device={device}", f"parallel.tp={degree}")
            for rows, kind in ((alone, "one prompt"), (together, "several prompts")):
                inside = rows[(rows["hardware"] == hardware) & (rows["tensor_parallel"] == degree)]
                medians = inside.groupby(["batch_size", "prompt_size"])[["prompt_time", "token_time"]].median()
                for row in medians.reset_index().to_dict("records"):
                    count, size = int(row["batch_size"]), int(row["prompt_size"])
                    name = f"TP{degree}, {count} x {size} tokens"
                    prefill = Batch.of([(size, 0)] * count, [])
                    decode = Batch.of([], [(count, size + SPLITWISE_TOKENS // 2)])
                    hardware_name = hardware.partition("-")[0].upper()
                    yield Case(f"Splitwise {hardware_name}, {kind}", name, row["prompt_time"] * MS, sum(times(prefill)))
                    yield Case(f"Splitwise {hardware_name}, decode", name, row["token_time"] * MS, sum(times(decode)))


def _sarathi_serve(folder: Path) -> Iterator[Case]:
    times = stage_times("model=yi_34b", "device=a100_80gb", "parallel.tp=2")
    size = ("batch_num_prefill_tokens", "batch_num_decode_tokens")
    for name, unit in (("prefill", 1.0), ("decode", 1.0), ("hybrid_batch", MS)):
        for row in read_columns(folder / f"{name}.csv", *size, "batch_execution_time").to_dict("records"):
            prefill, decodes = (int(row[column]) for column in size)
            batch = Batch.of([(prefill, 0)] if prefill else [], [(decodes, SARATHI_CONTEXT)] if decodes else [])
            large = "from 512 tokens" if prefill + decodes >= 512 else "fewer tokens"
            case = f"{name}: {prefill} prefill, {decodes} decodes"
            measured_s = float(row["batch_execution_time"]) * unit
            yield Case(f"Sarathi-Serve Yi-34B TP2, {large}", case, measured_s, sum(times(batch)))
    columns = ("prefill_length", "chunk_size", "prefill_execution_time")
    for row in read_columns(folder / "chunking-overhead.csv", *columns).to_dict("records"):
        length, chunk = int(row["prefill_length"]), int(row["chunk_size"])
        starts = range(0, length, chunk)
        predicted_s = sum(sum(times(Batch.of([(min(chunk, length - start), start)], []))) for start in starts)
        case = f"{length} tokens in chunks of {chunk}"
        measured_s = float(row["prefill_execution_time"]) * MS
        yield Case("Sarathi-Serve Yi-34B TP2, chunked prompts", case, measured_s, predicted_s)


def _tensorrt_llm(path: Path) -> Iterator[Case]:
    table = read_columns(path, "gpu", "metric", "model", "tp", "isl", "value")
    table = table[(table["metric"] == "first_token") & (table["gpu"] == "A100-80GB")]
    models = {"LLaMA 7B": "llama2_7b", "LLaMA 70B": "llama2_70b", "Falcon 180B": "falcon_180b"}
    for row in table[table["model"].isin(models)].to_dict("records"):
        overrides = (f"model={models[row['model']]}", "device=a100_80gb_sxm", f"parallel.tp={row['tp']}")
        predicted_s = sum(stage_times(*overrides, "engine=none")(Batch.of([(int(row["isl"]), 0)], [])))
        case = f"{row['model']} TP{row['tp']}, {row['isl']} tokens"
        yield Case("TensorRT-LLM A100, first token, no host", case, float(row["value"]) * MS, predicted_s)


def _figure_6() -> Iterator[Case]:
    for index, degree in enumerate((2, 4)):
        times = stage_times("model=llama2_70b", "device=a100_80gb_sxm", f"parallel.tp={degree}")
        for num_tokens, measured in PUBLISHED_LINEAR_MS.items():
            case = f"TP{degree}, {num_tokens} tokens"
            yield Case(
                "Sarathi-Serve figure 6, linear layers", case, measured[index] * MS, linear_time(times, num_tokens)
            )


def linear_times(degree: int, tokens: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[float]:
    """Predict the seconds of figure 6 at any numbers of tokens."""
    times = stage_times("model=llama2_70b", "device=a100_80gb_sxm", f"parallel.tp={degree}")
    return [linear_time(times, int(num_tokens)) for num_tokens in tokens]
