"""Imports the operator tables of LLMServingSim (`profiler/perf`): vLLM, measured layer by layer.

Reads a folder with GPU/MODEL/FORMAT/{meta.yaml, tpN/*.csv[.gz]}. Times there are microseconds.

Source: github.com/casys-kaist/LLMServingSim, MIT licence.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from profiling.tables import KERNEL_DURATION, Header, complete, read_columns

US = 1e-6
SOURCE = "LLMServingSim profiler/perf (github.com/casys-kaist/LLMServingSim)"
# Name there -> name in configs/device; multiprocessors, TFLOP/s, GB/s and MB of L2 cache of the data sheet.
GPUS = {
    "RTX4090": ("rtx4090", 128, 165.2, 1008.0, {"fp8": 330.3, "int8": 660.6}, 72),
    "RTXPRO6000": ("rtx_pro_6000", 188, 467.8, 1597.0, {"fp8": 935.6, "int8": 935.6, "nvfp4": 1871.2}, 128),
}
# Published widths of the models: residual stream, head, query heads, KV heads, MLP or expert, vocabulary.
MODELS = {
    "Llama-3.1-8B": (4096, 128, 32, 8, 14336, 128256),
    "Qwen3-32B": (5120, 128, 64, 8, 25600, 151936),
    "Qwen3-30B-A3B-Instruct-2507": (2048, 128, 32, 4, 768, 151936),
}
EXPERTS = {"Qwen3-30B-A3B-Instruct-2507": (128, 8)}  # experts, and experts per token
_ELEMENTWISE = {
    "layernorm": "add_norm",
    "final_layernorm": "add_norm",
    "rotary_emb": "rope",
    "act_fn": "activation",
    "embedding": "embedding",
    "qk_norm": "qk_norm",
}


@dataclass(frozen=True)
class _Widths:
    """Widths of a model on one GPU."""

    hidden: int
    head_dim: int
    q_heads: int
    kv_heads: int
    ffn: int
    vocab: int

    def matmuls(self) -> Mapping[str, tuple[int, int]]:
        q_width, kv_width = self.q_heads * self.head_dim, 2 * self.kv_heads * self.head_dim
        return {
            "qkv_proj": (self.hidden, q_width + kv_width),
            "o_proj": (q_width, self.hidden),
            "gate_up_proj": (self.hidden, 2 * self.ffn),
            "down_proj": (self.ffn, self.hidden),
            "lm_head": (self.hidden, self.vocab),
        }

    def values(self) -> Mapping[str, int]:
        """Return the values that elementwise operators read and write per token."""
        heads = (self.q_heads + self.kv_heads) * self.head_dim
        return {
            "add_norm": 4 * self.hidden,
            "rope": 2 * heads,
            "qk_norm": 2 * heads,
            "activation": 3 * self.ffn,
            "embedding": 2 * self.hidden,
            "sampling": self.vocab,
        }


def tables(folder: Path) -> Iterator[tuple[Header, str, pd.DataFrame]]:
    """Yield (header, family, rows) of each GPU.

    Raises:
        ValueError: The folder has no such tables, or a model or file is unknown.
    """
    is_empty = True
    for gpu in (gpu for gpu in GPUS if (folder / gpu).is_dir()):
        families: dict[str, list[pd.DataFrame]] = {}
        versions = set()
        for path in sorted((folder / gpu).glob("*/*/meta.yaml")):
            versions.add(str(yaml.safe_load(path.read_text())["vllm_version"]))
            for degree in sorted(path.parent.glob("tp*")):
                for family, rows in _shard(path.parent.parent.name, degree):
                    families.setdefault(family, []).append(rows)
        header = _header(gpu, versions)
        for family, parts in families.items():
            is_empty = False
            yield header, family, complete(pd.concat(parts).assign(device=header.device), family)
    if is_empty:
        raise ValueError(
            f"{folder} has no tables of LLMServingSim: no GPU/MODEL/FORMAT/meta.yaml for {', '.join(GPUS)}"
        )


def _header(gpu: str, versions: set[str]) -> Header:
    device, num_sms, peak_tflops, bandwidth, formats, l2_mb = GPUS[gpu]
    version = ", ".join(sorted(versions))
    return Header(
        device,
        SOURCE,
        "MIT",
        "2026",
        f"vllm {version}",
        num_sms,
        peak_tflops,
        bandwidth,
        kernels="vllm",
        format_tflops=formats,
        l2_mb=l2_mb,
        environment={"timing": KERNEL_DURATION},
    )


def _shard(model: str, folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the families of one model at one tensor-parallel degree."""
    if model not in MODELS:
        raise ValueError(f"{folder}: the widths of {model} are not known; known models: {', '.join(MODELS)}")
    degree = int(folder.name.removeprefix("tp"))
    hidden, head_dim, q_heads, kv_heads, ffn, vocab = MODELS[model]
    widths = _Widths(
        hidden, head_dim, q_heads // degree, max(1, kv_heads // degree), ffn // degree, -(-vocab // degree)
    )
    common: dict[str, Any] = {"model": model, "tp": degree}
    dense = _read(folder, "dense", "layer", "tokens").rename(columns={"tokens": "num_tokens"})
    per_sequence = _read(folder, "per_sequence", "layer", "sequences").rename(columns={"sequences": "num_tokens"})
    layers = pd.concat([dense, per_sequence.replace({"layer": {"sampler": "sampling"}})]).assign(**common)
    yield "matmul", _matmul(layers, widths)
    yield "elementwise", _elementwise(layers, widths)
    attention = _read(folder, "attention", "prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    yield from _attention(attention.assign(**common), widths)
    if model in EXPERTS and any(folder.glob("moe.csv*")):
        yield "experts", _experts(_read(folder, "moe", "tokens", "activated_experts").assign(**common), model, widths)


def _read(folder: Path, name: str, *columns: str) -> pd.DataFrame:
    path = next(iter(sorted(folder.glob(f"{name}.csv*"))), folder / f"{name}.csv")
    table = read_columns(path, *columns, "time_us")
    return table.assign(seconds=table["time_us"] * US, seconds_min=np.nan, seconds_std=np.nan, library="vllm").query(
        "seconds > 0"
    )


def _matmul(layers: pd.DataFrame, widths: _Widths) -> pd.DataFrame:
    shapes = widths.matmuls()
    rows = layers[layers["layer"].isin(shapes)]
    k, n = (rows["layer"].map({name: shape[axis] for name, shape in shapes.items()}) for axis in (0, 1))
    return rows.assign(operator=rows["layer"], k=k, n=n, dtype="bf16")


def _elementwise(layers: pd.DataFrame, widths: _Widths) -> pd.DataFrame:
    operator = layers["layer"].replace(_ELEMENTWISE)
    inside = operator.isin(widths.values())
    return layers[inside].assign(operator=operator[inside], width=operator[inside].map(widths.values()))


def _attention(table: pd.DataFrame, widths: _Widths) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of one phase, and those of mixed batches."""
    shape: dict[str, Any] = {"q_heads": widths.q_heads, "kv_heads": widths.kv_heads, "head_dim": widths.head_dim}
    table = table.assign(**shape, kv_dtype="bf16", window=0)
    prefill, decode = table["prefill_chunk"] > 0, table["n_decode"] > 0
    chunks, decodes, mixed = table[prefill & ~decode], table[decode & ~prefill], table[prefill & decode]
    yield (
        "attention",
        pd.concat(
            [
                chunks.assign(
                    operator="prefill_attention",
                    num_tokens=chunks["prefill_chunk"],
                    batch=1,
                    context=chunks["kv_prefill"],
                ),
                decodes.assign(
                    operator="decode_attention",
                    num_tokens=decodes["n_decode"],
                    batch=decodes["n_decode"],
                    context=decodes["kv_decode"],
                ),
            ]
        ),
    )
    names = {"prefill_chunk": "num_tokens", "kv_prefill": "context", "n_decode": "num_decodes"}
    yield "mixed_attention", mixed.rename(columns=names | {"kv_decode": "decode_context"})


def _experts(table: pd.DataFrame, model: str, widths: _Widths) -> pd.DataFrame:
    num_experts, per_token = EXPERTS[model]
    return table.assign(
        ep=1,
        dtype="bf16",
        hidden_size=widths.hidden,
        ffn_size=widths.ffn,
        num_experts=num_experts,
        experts_per_token=per_token,
        routing="activated_" + table["activated_experts"].astype(str),
        num_tokens=table["tokens"],
    )
