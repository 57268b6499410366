"""Imports measurements in Vidur's format: layers, attention and network.

Reads Vidur's own layout, `compute/GPU/ORG/MODEL/{mlp,attention}.csv` and `network/MACHINE/*.csv`, and the flat one:
`linear/GPU_MODEL.csv` (mlp.csv), `attention.csv`, `network/MACHINE_*.csv`, `cpu_overheads_GPU.csv`. Files may be
gzipped. Times there are milliseconds.

Source: Agrawal et al., MLSys 2024.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from profiling.tables import Header, complete, read_columns

MS = 1e-3
BYTES_PER_VALUE = 2
# Vidur's name of the GPU -> name in configs/device; multiprocessors, TFLOP/s and GB/s of the data sheet.
GPUS = {
    "a100": ("a100_80gb", 108, 312.0, 1935.0),
    "a40": ("a40", 84, 149.7, 696.0),
    "h100": ("h100_sxm", 132, 989.4, 3350.0),
}
# The source does not tell the variants of a GPU apart.
ALSO_OF = {"a100": ["a100_80gb_sxm"]}
SOURCE = "Vidur (Agrawal et al., MLSys 2024), profiling data of github.com/microsoft/vidur and its forks"
GENERATION = "2024: PyTorch 2 with cuBLAS, FlashAttention-2 and FlashInfer kernels of that year, vLLM-like engine"
KERNELS = "sarathi_serve"
_MATMULS = {
    "attn_pre_proj": "qkv_proj",
    "attn_post_proj": "o_proj",
    "mlp_up_proj": "gate_up_proj",
    "mlp_down_proj": "down_proj",
}
_ELEMENTWISE = {
    "emb": "embedding",
    "input_layernorm": "input_norm",
    "post_attention_layernorm": "post_attention_norm",
    "attn_rope": "rope",
    "mlp_act": "activation",
    "add": "residual_add",
}
_HOST = {
    "schedule_median": "schedule",
    "prepare_inputs_e2e_median": "prepare_inputs",
    "sampler_e2e_median": "sampler",
    "process_model_outputs_median": "process_outputs",
    "ray_comm_time_mean": "worker_messages",
}
LIBRARY = "vidur"


def header(gpu: str) -> Header:
    """Return the header of the tables of a GPU."""
    device, sms, tflops, bandwidth = GPUS[gpu]
    also_of = ALSO_OF.get(gpu, [])
    return Header(device, SOURCE, "MIT", "2024", GENERATION, sms, tflops, bandwidth, KERNELS, also_of=also_of)


def tables(folder: Path) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield (GPU, family, rows) of all files in a folder.

    Raises:
        ValueError: The folder has no such files, or a file lacks a column.
    """
    is_empty = True
    for gpu, device in ((gpu, values[0]) for gpu, values in GPUS.items()):
        flat = [(path, _stem(path).partition("_")[2]) for path in _files(folder, f"linear/{gpu}_*")]
        nested = [(path, path.parent.name) for path in _files(folder, f"compute/{gpu}/*/*/mlp")]
        linear = [_linear(path, model) for path, model in (*flat, *nested)]
        parts = {
            "matmul": [rows for matmul, _ in linear for rows in matmul],
            "elementwise": [rows for _, elementwise in linear for rows in elementwise],
            "attention": [
                *(_attention(path, gpu) for path in _files(folder, "attention*")),
                *(_own_attention(path) for path in _files(folder, f"compute/{gpu}/*/*/attention")),
            ],
            "communication": [
                *(_network(path, _machine(path)) for path in _files(folder, f"network/{gpu}_*")),
                *(_network(path, path.parent.name) for path in _files(folder, f"network/{gpu}_*/*")),
            ],
            "host": [_host(path) for path in _files(folder, f"cpu_overheads_{gpu}*")],
        }
        for family, rows in parts.items():
            whole = pd.concat([part.dropna(subset=["seconds"]) for part in rows]) if rows else pd.DataFrame()
            if len(whole):
                is_empty = False
                yield gpu, family, complete(whole.assign(device=device, library=LIBRARY), family)
    if is_empty:
        raise ValueError(
            f"{folder} has no files of Vidur: neither compute/GPU/ORG/MODEL/mlp.csv and network/MACHINE/*.csv, nor "
            f"linear/GPU_MODEL.csv, attention.csv and network/MACHINE_*.csv, for a GPU of {', '.join(GPUS)}"
        )


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for end in (".csv", ".csv.gz") for path in folder.glob(pattern + end))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def _machine(path: Path) -> str:
    return re.sub(r"(_all_reduce|_send_recv|_int(er|ra)_node)*$", "", _stem(path))


def _timed(table: pd.DataFrame, name: str) -> dict[str, pd.Series]:
    """Return median, minimum and deviation of a timer, in seconds.

    Vidur's timers resolve 1 us.
    """
    prefix = f"time_stats.{name}."
    unknown = pd.Series(np.nan, index=table.index)
    return {
        "seconds": (table[prefix + "median"] * MS).where(table[prefix + "median"] > 0),
        "seconds_min": table.get(prefix + "min", unknown) * MS,
        "seconds_std": table.get(prefix + "std", unknown) * MS,
    }


def _linear(path: Path, model: str) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Return the tables of GEMMs and of elementwise operators in a file."""
    sizes = ("n_head", "n_kv_head", "n_embd", "n_expanded_embd", "use_gated_mlp", "num_tensor_parallel_workers")
    table = read_columns(path, *sizes, "num_tokens")
    tp, hidden = table["num_tensor_parallel_workers"], table["n_embd"]
    head_dim = hidden // table["n_head"]
    q_width = table["n_head"] // tp * head_dim
    kv_width = 2 * (table["n_kv_head"] // tp).clip(lower=1) * head_dim
    ffn = table["n_expanded_embd"] // tp
    gates = np.where(table["use_gated_mlp"], 2, 1)
    matmuls = {
        "attn_pre_proj": (hidden, q_width + kv_width),
        "attn_post_proj": (q_width, hidden),
        "mlp_up_proj": (hidden, gates * ffn),
        "mlp_down_proj": (ffn, hidden),
    }
    widths = {
        "emb": 2 * hidden,
        "input_layernorm": 2 * hidden,
        "post_attention_layernorm": 2 * hidden,
        "attn_rope": 2 * q_width + kv_width,
        "mlp_act": (gates + 1) * ffn,
        "add": 3 * hidden,
    }
    common = {"model": model, "tp": tp, "num_tokens": table["num_tokens"]}
    present = [name for name in (*matmuls, *widths) if f"time_stats.{name}.median" in table]
    return (
        [
            pd.DataFrame(
                common
                | _timed(table, name)
                | {"operator": _MATMULS[name], "k": matmuls[name][0], "n": matmuls[name][1]}
            )
            for name in present
            if name in matmuls
        ],
        [
            pd.DataFrame(common | _timed(table, name) | {"operator": _ELEMENTWISE[name], "width": widths[name]})
            for name in present
            if name in widths
        ],
    )


def _attention(path: Path, gpu: str) -> pd.DataFrame:
    needed = ("device", "model", "tp", "q_heads", "kv_heads", "head_dim", "phase", "batch", "chunk", "kv", "ms")
    table = read_columns(path, *needed)
    table = table[table["device"] == gpu]
    prefill = table["phase"] == "prefill"
    shape = {name: table[name] for name in ("model", "tp", "q_heads", "kv_heads", "head_dim")}
    return pd.DataFrame(
        shape
        | {
            "operator": np.where(prefill, "prefill_attention", "decode_attention"),
            "num_tokens": table["chunk"].where(prefill, table["batch"]).astype(int),
            "batch": table["batch"].fillna(1).astype(int),
            "context": table["kv"].fillna(0).astype(int),
            "seconds": table["ms"] * MS,
            "seconds_min": np.nan,
            "seconds_std": np.nan,
        }
    )


def _own_attention(path: Path) -> pd.DataFrame:
    """Return the rows of Vidur's attention.csv, whose phases are separate timers."""
    sizes = ("n_q_head", "n_kv_head", "n_embd", "num_tensor_parallel_workers", "batch_size", "is_prefill")
    table = read_columns(path, *sizes, "prefill_chunk_size", "kv_cache_size")
    is_prefill = table["is_prefill"].astype(bool)
    parts = []
    for phase, inside in (("prefill", is_prefill), ("decode", ~is_prefill)):
        timer = f"attn_{phase}"
        if f"time_stats.{timer}.median" in table:
            rows = table[inside]
            tokens = rows["prefill_chunk_size"] if phase == "prefill" else rows["batch_size"]
            operator = f"{phase}_attention"
            parts.append(rows.assign(operator=operator, num_tokens=tokens, **_timed(rows, timer)))
    if not parts:
        raise ValueError(f"{path} has no column time_stats.attn_prefill.median or time_stats.attn_decode.median")
    rows = pd.concat(parts)
    degree = rows["num_tensor_parallel_workers"]
    return rows.assign(
        model=path.parent.name,
        tp=degree,
        q_heads=rows["n_q_head"] // degree,
        kv_heads=(rows["n_kv_head"] // degree).clip(lower=1),
        head_dim=rows["n_embd"] // rows["n_q_head"],
        batch=rows["batch_size"],
        context=rows["kv_cache_size"],
    )


def _network(path: Path, machine: str) -> pd.DataFrame:
    operator = "all_reduce" if "all_reduce" in path.name else "send"
    name = "all_reduce" if operator == "all_reduce" else "send_recv"
    table = read_columns(path, f"time_stats.{name}.median")
    if "size" in table:
        num_bytes = table["size"]
    else:
        num_bytes = table["n_embd"] * table["num_tokens"] * BYTES_PER_VALUE
        if operator == "send":
            num_bytes = num_bytes // table["num_tensor_parallel_workers"]
    num_gpus = table["num_workers"] if "num_workers" in table else pd.Series(2, index=table.index)
    own_node = 1 if "inter_node" in path.name else num_gpus
    per_node = table.get("devices_per_node", own_node)
    rows = {"machine": machine, "operator": operator, "num_gpus": num_gpus, "gpus_per_node": per_node}
    return pd.DataFrame(rows | {"num_bytes": num_bytes} | _timed(table, name)).query("num_bytes > 0")


def _host(path: Path) -> pd.DataFrame:
    table = read_columns(path, *_HOST, "model_name", "batch_size", "tensor_parallel_degree")
    common = {"model": table["model_name"], "tp": table["tensor_parallel_degree"], "batch": table["batch_size"]}
    unknown = {"seconds_min": np.nan, "seconds_std": np.nan}
    return pd.concat(
        pd.DataFrame(common | {"operator": operator, "seconds": table[column] * MS} | unknown)
        for column, operator in _HOST.items()
    )
