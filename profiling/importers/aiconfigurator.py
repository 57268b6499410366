"""Imports the measurements in the installed PyPI package aiconfigurator-core (NVIDIA, Apache-2.0)."""

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from profiling.tables import Header, TableError, columns_of

PACKAGE = "aiconfigurator-core"
MS = 1e-3
# The package's name of the system -> name in configs/device, streaming multiprocessors (data sheets).
SYSTEMS = {
    "a100_sxm": ("a100_80gb_sxm", 108),
    "a30": ("a30", 56),
    "b200_sxm": ("b200_sxm", 148),
    "h100_sxm": ("h100_sxm", 132),
    "h200_sxm": ("h200_sxm", 132),
    "l4": ("l4", 58),
    "l40s": ("l40s", 142),
}
BACKENDS = ("vllm", "trtllm", "sglang")
MODEL = "any"


def systems_folder() -> Path:
    """Return the folder of the installed package's measurements.

    Raises:
        TableError: The package is not installed.
    """
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise TableError(f"{PACKAGE} is not installed: pip install 'llm-serving-simulator[aiconfigurator]'")
    return Path(spec.submodule_search_locations[0]) / "systems"


def header(systems: Path, system: str, backend: str, version: str) -> Header:
    """Return the header of the tables of a system."""
    if system not in SYSTEMS:
        raise TableError(f"--system must be one of {', '.join(SYSTEMS)}, got {system}")
    gpu = yaml.safe_load((systems / f"{system}.yaml").read_text())["gpu"]
    device, num_sms = SYSTEMS[system]
    release = importlib.metadata.version(PACKAGE)
    return Header(
        device=device,
        source=f"{PACKAGE} {release} (NVIDIA), {system}, {backend}",
        licence="Apache-2.0",
        date="2026",
        engine_generation=f"{backend} {version}, bf16",
        num_sms=num_sms,
        peak_tflops=gpu["bfloat16_tc_flops"] / 1e12,
        bandwidth_gb_per_s=gpu["mem_bw"] / 1e9,
    )


def version_of(systems: Path, system: str, backend: str) -> str:
    """Return the newest version of a backend with measured GEMMs.

    Raises:
        TableError: The package has none.
    """
    versions = sorted(path.parent.name for path in (systems / "data" / system / "gemm" / backend).glob("*/gemm_perf.*"))
    if not versions:
        raise TableError(
            f"{PACKAGE} has no measurements of {system} with {backend}; --backend must be one of {', '.join(BACKENDS)}"
        )
    return versions[-1]


def tables(systems: Path, system: str, backend: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (family, rows) of a system.

    The rows are bf16 GEMMs, attention without sliding window and NCCL all-reduces.
    """
    device, _ = SYSTEMS[system]
    folder = systems / "data" / system
    parts = {
        "matmul": [_matmul(path) for path in _newest(folder / "gemm" / backend, "gemm_perf")],
        "attention": [
            *(_prefill(path) for path in _newest(folder / "attention" / backend, "context_attention_perf")),
            *(_decode(path) for path in _newest(folder / "attention" / backend, "generation_attention_perf")),
        ],
        "communication": [_all_reduce(path, system) for path in _newest(folder / "comm" / "nccl", "nccl_perf")],
    }
    for family, rows in parts.items():
        if rows:
            table = pd.concat(rows).assign(device=device, seconds_min=np.nan, seconds_std=np.nan)
            yield family, table[columns_of(family)]


def _newest(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"*/{name}.parquet"))[-1:]


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    dtypes = [name for name in ("gemm_dtype", "attn_dtype", "kv_cache_dtype") if name in table]
    for name in dtypes:
        table = table[table[name] == "bfloat16"]
    if "window_size" in table:
        table = table[table["window_size"] == 0]
    table = table.assign(seconds=table["latency"] * MS, library=table["framework"] + " " + table["version"])
    return table[table["seconds"] > 0]


def _matmul(path: Path) -> pd.DataFrame:
    table = _read(path)
    return table.assign(model=MODEL, tp=1, operator="matmul", num_tokens=table["m"])


def _prefill(path: Path) -> pd.DataFrame:
    table = _read(path)
    table = table[(table["batch_size"] == 1) & (table["step"] == 0)]
    sizes = {"num_tokens": table["isl"], "batch": 1, "context": 0}
    return _attention(table, "prefill_attention", sizes)


def _decode(path: Path) -> pd.DataFrame:
    table = _read(path)
    sizes = {"num_tokens": table["batch_size"], "batch": table["batch_size"], "context": table["step"]}
    return _attention(table, "decode_attention", sizes)


def _attention(table: pd.DataFrame, operator: str, sizes: dict[str, Any]) -> pd.DataFrame:
    heads = {"q_heads": table["num_heads"], "kv_heads": table["num_key_value_heads"]}
    return table.assign(model=MODEL, tp=1, operator=operator, **heads, **sizes)


def _all_reduce(path: Path, system: str) -> pd.DataFrame:
    table = _read(path)
    table = table[(table["op_name"] == "all_reduce") & (table["nccl_dtype"] == "half")]
    gpus = table["num_gpus"]
    # Sizes count half-precision values.
    return table.assign(machine=system, operator="all_reduce", gpus_per_node=gpus, num_bytes=2 * table["message_size"])
