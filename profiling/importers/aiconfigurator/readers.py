"""Readers of the wheels' tables, one function per table.

Latencies are milliseconds there, except those of expert messages, which are microseconds. Sizes of collectives count
elements, of two bytes in half precision.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from profiling.importers.aiconfigurator.systems import System
from profiling.tables import complete

MS, US = 1e-3, 1e-6
MODEL = "any"
BYTES_PER_VALUE = 2
# Names of number formats there -> here.
FORMATS = {
    "bfloat16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "nvfp4": "nvfp4",
    "int8_wo": "int8_wo",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4_mxfp8",
    "int8": "int8",
}
_COLLECTIVES = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
}
_CUSTOM = {"vllm_graph": "custom_all_reduce", "vllm_eager": "custom_all_reduce_eager"}
# Rows of quantisation kernels: name there -> operator here.
_QUANTISE = {"scale_matrix": "quantise", "compute_scale": "compute_scale"}

Read = Callable[[pd.DataFrame], pd.DataFrame]


def tables(system: System) -> Iterator[tuple[str, list[Path], pd.DataFrame]]:
    """Yield (family, files, rows) of a system, doubtful rows included."""
    for family, sources in _SOURCES.items():
        parts, files = [], []
        for folder, name, read in sources:
            newest = system.table(folder, name)
            repeats = system.repeated_tables(folder, name) if family == "matmul" else []
            for path in [newest, *repeats] if newest is not None else []:
                parts.append(read(_table(path, system)))
                files.append(path)
        if family == "communication" and (nccl := _whole_nccl_table(system)) is not None:
            parts.append(_collectives(_table(nccl, system)))
            files.append(nccl)
        if parts:
            rows = pd.concat(parts, ignore_index=True)
            yield (
                family,
                files,
                complete(rows.assign(device=system.device, seconds_min=np.nan, seconds_std=np.nan), family),
            )


def _whole_nccl_table(system: System) -> Path | None:
    """Return the newest table that has all collectives."""
    for path in system.nccl_tables():
        if set(_COLLECTIVES) <= set(pd.read_parquet(path, columns=["op_name"])["op_name"]):
            return path
    return None


def _table(path: Path, system: System) -> pd.DataFrame:
    table = pd.read_parquet(path)
    for name in ("gemm_dtype", "attn_dtype", "kv_cache_dtype", "moe_dtype", "mla_dtype", "quant_dtype"):
        if name in table:
            table[name] = table[name].map(FORMATS).fillna(table[name])
    if "power" in table:
        table["power_w"] = table["power"].where(table["power"] > 0)
    return table.assign(
        seconds=table["latency"] * MS, library=_library(table), model=MODEL, tp=1, machine=system.machine
    )


def _library(table: pd.DataFrame) -> Any:
    return table["framework"] + " " + table["version"] if "framework" in table else "NCCL"


def _matmul(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(operator="matmul", dtype=table["gemm_dtype"], num_tokens=table["m"])


def _prefill(table: pd.DataFrame) -> pd.DataFrame:
    sizes = {"num_tokens": table["isl"], "batch": table["batch_size"], "context": table["step"]}
    return _attention(table, "prefill_attention", sizes)


def _decode(table: pd.DataFrame) -> pd.DataFrame:
    sizes = {"num_tokens": table["batch_size"], "batch": table["batch_size"], "context": table["step"]}
    return _attention(table, "decode_attention", sizes)


def _attention(table: pd.DataFrame, operator: str, sizes: dict[str, Any]) -> pd.DataFrame:
    shape: dict[str, Any] = {
        "q_heads": table["num_heads"],
        "kv_heads": table["num_key_value_heads"],
        "kv_dtype": "bf16",
        "window": 0,
    }
    if "kv_cache_dtype" in table:
        shape["kv_dtype"] = table["kv_cache_dtype"]
    if "window_size" in table:
        shape["window"] = table["window_size"]
    return table.assign(operator=operator, **shape, **sizes)


def _experts(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        tp=table["moe_tp_size"],
        ep=table["moe_ep_size"],
        dtype=table["moe_dtype"],
        ffn_size=table["inter_size"],
        experts_per_token=table["topk"],
        routing=table["distribution"],
    )


def _quantise(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(operator=table["op_name"].map(_QUANTISE), width=table["k"], num_tokens=table["m"])


def _latent_prefill(table: pd.DataFrame) -> pd.DataFrame:
    return _latent(table, "prefill", table["isl"])


def _latent_decode(table: pd.DataFrame) -> pd.DataFrame:
    return _latent(table, "decode", table["batch_size"])


def _latent(table: pd.DataFrame, operator: str, num_tokens: pd.Series) -> pd.DataFrame:
    """Return rows of whole latent-attention modules: their projections and attention."""
    table = table.assign(operator=operator, num_tokens=num_tokens, batch=table["batch_size"], context=table["step"])
    gemm = table["gemm_type"].map(FORMATS).fillna(table["gemm_type"])
    return table.assign(q_heads=table["num_heads"], dtype=gemm, kv_dtype=table["kv_cache_dtype"])


def _custom_all_reduce(table: pd.DataFrame) -> pd.DataFrame:
    if "backend" not in table.columns:  # tables of other engines do not say how they measured
        return _messages(table.head(0), pd.Series(dtype=object))
    return _messages(table[table["backend"].isin(_CUSTOM)], table["backend"].map(_CUSTOM))


def _collectives(table: pd.DataFrame) -> pd.DataFrame:
    table = table[(table["nccl_dtype"] == "half") & table["op_name"].isin(_COLLECTIVES)]
    return _messages(table, table["op_name"].map(_COLLECTIVES))


def _messages(table: pd.DataFrame, operator: pd.Series) -> pd.DataFrame:
    return table.assign(
        operator=operator,
        gpus_per_node=table["num_gpus"],
        num_bytes=BYTES_PER_VALUE * table["message_size"],
    )


def _expert_messages(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        seconds=table["latency"] * US,
        operator=table["comm_backend"] + "_" + table["phase"],
        num_gpus=table["ep_size"],
        num_nodes=table["node_num"],
        experts_per_token=table["topk"],
    )


# Family -> folder and name of each of its tables.
_SOURCES: dict[str, list[tuple[str, str, Read]]] = {
    "matmul": [("gemm", "gemm_perf", _matmul)],
    "elementwise": [
        ("quantize", "scale_matrix_perf", _quantise),
        ("quantize", "computescale_perf", _quantise),
    ],
    "attention": [
        ("attention", "context_attention_perf", _prefill),
        ("attention", "generation_attention_perf", _decode),
    ],
    "latent_attention": [
        ("mla", "mla_context_module_perf", _latent_prefill),
        ("mla", "mla_generation_module_perf", _latent_decode),
    ],
    "experts": [("moe", "moe_perf", _experts)],
    "communication": [("comm", "custom_allreduce_perf", _custom_all_reduce)],
    "expert_messages": [("comm", "moe_a2a_perf", _expert_messages)],
}
