"""Closed loops of vLLM in `silicon_sample.csv` of the wheels aiconfigurator-core and aisimulate.

NVIDIA, Apache-2.0. Rows have mean TTFT and TPOT at a constant number of concurrent requests of equal lengths. How TTFT
was measured is not stated, so TPOT alone is compared.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simulator.accuracy.points import Point, SetError, Skipped, read_rows

FILE = "silicon_sample.csv"
WHERE = "pip download --no-deps aiconfigurator-core; the file is in the wheel, below systems/"
NAME = "silicon sample"
ROUNDS = 20  # requests per user
# Model there -> configuration.
MODELS = {
    "Qwen/Qwen3-32B": ("model=qwen3_32b",),
    "meta-llama/Llama-3.1-70B": ("model=llama3_70b",),
    "nvidia/Llama-3.1-8B-Instruct-FP8": ("model=llama3_8b",),
}
DEVICES = ("a100_sxm", "b200_sxm", "h100_sxm", "h200_sxm", "l40s")
FORMATS = {"": "bf16", "fp8": "fp8", "nvfp4": "nvfp4"}
# Version there -> engine; versions that are not stated are taken for those of 2025.
ENGINES = {"0.12.0": "vllm_v1_sync", "": "vllm_v1_2025"}
# Load generators send no sampling parameters, so the model's generation_config.json applies: top-k and top-p.
SAMPLING = "engine.sampling=top_k_top_p"
_KEY = ("backend", "system", "model_path", "backend_version", "gemm_quant_mode", "tp_size", "isl", "osl", "batch_size")


def points(folder: Path) -> Iterator[Point | Skipped]:
    """Yield the points of the set, and what is left out.

    Raises:
        SetError: The file is not such a file.
    """
    rows = [row for row in read_rows(folder / FILE, *_KEY, "mode", "silicon_tpot_ms") if row["backend"] == "vllm"]
    if not rows:
        raise SetError(f"{folder / FILE} has no rows of vLLM")
    seen, missing = set(), dict[str, int]()
    for row in rows:
        key = (*(row[name] for name in _KEY), row["silicon_tpot_ms"])
        if key in seen or row["mode"] != "agg":
            continue
        seen.add(key)
        reason = _missing(row)
        if reason:
            missing[reason] = missing.get(reason, 0) + 1
        else:
            yield _point(row)
    for reason, count in sorted(missing.items()):
        yield Skipped(reason, count)


def _missing(row: dict[str, Any]) -> str:
    if row["model_path"] not in MODELS:
        return f"no model {row['model_path']}"
    if row["system"] not in DEVICES:
        return f"no device {row['system']}"
    if row["backend_version"] not in ENGINES:
        return f"no engine of vLLM {row['backend_version']}"
    if row["gemm_quant_mode"] not in FORMATS or not row["batch_size"]:
        return "no number format or concurrency"
    return ""


def _point(row: dict[str, Any]) -> Point:
    tp, prompt, output = (int(float(row[name])) for name in ("tp_size", "isl", "osl"))
    users, dtype = int(float(row["batch_size"])), FORMATS[row["gemm_quant_mode"]]
    engine = ENGINES[row["backend_version"]]
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
            SAMPLING,
            "trace=fixed",
            f"trace.prompt_tokens={prompt}",
            f"trace.output_tokens={output}",
            f"trace.num_requests={ROUNDS * users}",
            "arrival=closed_loop",
            f"arrival.users={users}",
        ),
        measured={"tpot_s.mean": float(row["silicon_tpot_ms"]) * 1e-3},
    )
