"""Closed loops of vLLM in `silicon_sample.csv` of the wheels aiconfigurator-core and aisimulate.

NVIDIA, Apache-2.0. Rows have mean TTFT and TPOT at a constant number of concurrent requests of equal lengths. How TTFT
was measured is not stated, so TPOT alone is compared.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simulator.accuracy.points import Point, Skipped, read_rows
from simulator.config import component

FILE = "silicon_sample.csv"
WHERE = "pip download --no-deps aiconfigurator-core; the file is in the wheel, below systems/"
NAME = "silicon sample"
# Requests per user: many of short answers, since users who started together drift apart.
MAX_ROUNDS, MIN_ROUNDS, ROUND_TOKENS = 20, 4, 20_480
# Model there -> configuration. Load generators send no sampling parameters, so generation_config.json applies. The rows
# of Llama-3.1-70B have the loads of InferenceX, whose client (that of `vllm bench serve`) asks for greedy sampling.
MODELS = {
    "Qwen/Qwen3-32B": ("model=qwen3_32b", "engine.sampling=top_k_top_p"),
    "meta-llama/Llama-3.1-70B": ("model=llama3_70b", "engine.sampling=greedy"),
    "nvidia/Llama-3.1-8B-Instruct-FP8": ("model=llama3_8b", "engine.sampling=top_k_top_p"),
}
# A file with rows that need a larger share of the peak matrix rate is left out: its concurrency is not that of one
# replica, or its prompts were found in the prefix cache.
MOST_MFU = 0.7
DEVICES = ("b200_sxm", "h100_sxm", "h200_sxm", "l40s")
FORMATS = {"": "bf16", "fp8": "fp8", "nvfp4": "nvfp4"}
# Version there -> engine; versions that are not stated are taken for those of 2025.
ENGINES = {"0.12.0": "vllm_v1_sync", "": "vllm_v1_2025"}
_SOURCE, _TIMES = "silicon_data_source", ("silicon_ttft_ms", "silicon_tpot_ms")
_KEY = ("backend", "system", "model_path", "backend_version", "gemm_quant_mode", "tp_size", "isl", "osl", "batch_size")


def points(folder: Path) -> Iterator[Point | Skipped]:
    """Yield the points of the set, and what is left out.

    Raises:
        ValueError: The file is not such a file.
    """
    rows = _distinct_rows(folder / FILE)
    if not rows:
        raise ValueError(f"{folder / FILE} has no rows of vLLM")
    implausible = {row[_SOURCE].partition(";")[0] for row in rows if not _missing(row) and _mfu(row) > MOST_MFU}
    missing: dict[str, int] = {}
    for row in rows:
        reason = _missing(row)
        if not reason and row[_SOURCE].partition(";")[0] in implausible:
            reason = f"the file has rows that need over {MOST_MFU:.0%} of the peak matrix rate"
        if reason:
            missing[reason] = missing.get(reason, 0) + 1
        else:
            yield _point(row)
    for reason, count in sorted(missing.items()):
        yield Skipped(reason, count)


def _distinct_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of aggregated serving under vLLM, without repeated ones."""
    seen, distinct = set(), []
    for row in read_rows(path, *_KEY, _SOURCE, "mode", *_TIMES):
        key = (*(row[name] for name in _KEY), *(row[name] for name in _TIMES))
        if row["backend"] == "vllm" and row["mode"] == "agg" and key not in seen:
            seen.add(key)
            distinct.append(row)
    return distinct


def _mfu(row: dict[str, str]) -> float:
    """Return the share of the peak matrix rate that a row needs."""
    tp, prompt, output, users = (int(float(row[name])) for name in ("tp_size", "isl", "osl", "batch_size"))
    ttft_s, tpot_s = (float(row[name]) * 1e-3 for name in _TIMES)
    tokens_per_s = users * (prompt + output) / (ttft_s + (output - 1) * tpot_s)
    model = component("model", MODELS[row["model_path"]][0].partition("=")[2])
    device = component("device", row["system"])
    peak = device.tflops(FORMATS[row["gemm_quant_mode"]]) * 1e12
    return float(2 * model.num_parameters * tokens_per_s / tp / peak)


def _missing(row: dict[str, Any]) -> str:
    if row["model_path"] not in MODELS:
        return f"no model {row['model_path']}"
    if row["system"] not in DEVICES:
        return f"no device {row['system']}"
    if row["backend_version"] not in ENGINES:
        return f"no engine of vLLM {row['backend_version']}"
    if row["gemm_quant_mode"] not in FORMATS or "silicon_concurrency=" not in row[_SOURCE]:
        return "the concurrency or the number format is not stated"
    return ""


def _point(row: dict[str, Any]) -> Point:
    tp, prompt, output = (int(float(row[name])) for name in ("tp_size", "isl", "osl"))
    users, dtype = int(float(row["batch_size"])), FORMATS[row["gemm_quant_mode"]]
    engine = ENGINES[row["backend_version"]]
    rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, ROUND_TOKENS // output))
    return Point(
        dataset=NAME,
        model=f"{row['model_path'].rpartition('/')[2]} {dtype}",
        device=row["system"],
        layout=f"TP{tp}",
        engine=f"vLLM {row['backend_version'] or '(version not stated)'}",
        load=f"{users} users, {prompt} + {output} tokens",
        overrides=(
            *MODELS[row["model_path"]],
            f"model.dtype={dtype}",
            f"model.max_model_len={prompt + output + 1}",
            f"device={row['system']}",
            f"parallel.tp={tp}",
            "scheduler=vllm_v1",
            f"engine={engine}",
            "trace=fixed",
            f"trace.prompt_tokens={prompt}",
            f"trace.output_tokens={output}",
            f"trace.num_requests={rounds * users}",
            "arrival=closed_loop",
            f"arrival.users={users}",
        ),
        measured={"tpot_s.mean": float(row["silicon_tpot_ms"]) * 1e-3},
    )
