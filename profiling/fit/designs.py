"""Inputs of the regressors for rows of tables: float64[n, terms + features]."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from profiling.tables import Header, medians, read_table
from simulator.iteration_time import (
    DESIGNS,
    Attention,
    AttentionCases,
    Elementwise,
    ExpertCases,
    Experts,
    Floats,
    Gpu,
    MatMul,
    elementwise_features,
    elementwise_terms,
    experts_inputs,
    matmul_features,
    matmul_terms,
)
from simulator.model import WEIGHT_DTYPES

MATMUL_SHAPE = ("k", "n")
ELEMENTWISE_SHAPE = ("width", "tp")
ATTENTION_SHAPE = ("q_heads", "kv_heads", "head_dim")
EXPERTS_SHAPE = ("hidden_size", "ffn_size", "num_experts", "experts_per_token", "tp", "ep")
# Name of a measured routing -> exponent of its power law.
ROUTINGS = {"balanced": 0.0, "power_law_1.01": 1.01, "power_law_1.2": 1.2}


def gpu_of(header: Header) -> Gpu:
    """Return the peak rates of the device of a header."""
    return Gpu(header.num_sms, header.peak_tflops, header.bandwidth_gb_per_s, header.format_tflops, header.l2_mb)


def by_shape(rows: pd.DataFrame, shape: tuple[str, ...]) -> Iterator[tuple[tuple[int, ...], "pd.Index[int]"]]:
    """Yield each shape and the positions of its rows.

    The index of the rows must be 0, 1, ...
    """
    key: Any
    for key, positions in rows.groupby(list(shape)).indices.items():
        yield tuple(int(value) for value in np.atleast_1d(key)), pd.Index(positions)


def _design(
    rows: pd.DataFrame, shape: tuple[str, ...], design_of: Callable[[tuple[int, ...], pd.DataFrame], Floats]
) -> Floats:
    """Call `design_of` per shape and stack results in row order."""
    numbered = rows.reset_index(drop=True)
    parts = [(positions, design_of(key, numbered.loc[positions])) for key, positions in by_shape(numbered, shape)]
    whole = np.empty((len(rows), parts[0][1].shape[1]))
    for positions, part in parts:
        whole[positions] = part
    return whole


def matmul_design(gpu: Gpu, rows: pd.DataFrame, dtype: str = "bf16") -> Floats:
    """Return terms and features of GEMMs of one number format."""

    def design_of(key: tuple[int, ...], group: pd.DataFrame) -> Floats:
        operator, tokens = MatMul("matmul", *key, dtype=dtype), group["num_tokens"].to_numpy(float)
        return np.hstack([matmul_terms(gpu, operator, tokens), matmul_features(gpu, operator, tokens)])

    return _design(rows, MATMUL_SHAPE, design_of)


def elementwise_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Return terms and features of elementwise operators."""

    def design_of(key: tuple[int, ...], group: pd.DataFrame) -> Floats:
        operator, tokens = Elementwise("any", *key), group["num_tokens"].to_numpy(float)
        return np.hstack([elementwise_terms(gpu, operator, tokens), elementwise_features(operator, tokens)])

    return _design(rows, ELEMENTWISE_SHAPE, design_of)


def attention_design(gpu: Gpu, rows: pd.DataFrame, design: str, kv_dtype: str) -> Floats:
    """Return the inputs of attention, by the named design."""
    is_decode = (rows["operator"] == "decode_attention").all()

    def design_of(key: tuple[int, ...], group: pd.DataFrame) -> Floats:
        seqs, context = group["batch"].to_numpy(float), group["context"].to_numpy(float)
        tokens = np.ones(len(group)) if is_decode else group["num_tokens"].to_numpy(float)
        cases = AttentionCases(Attention(*key, kv_dtype=kv_dtype), seqs, tokens, context)
        return np.hstack(DESIGNS[design](gpu, cases))

    return _design(rows, ATTENTION_SHAPE, design_of)


def experts_design(gpu: Gpu, rows: pd.DataFrame, dtype: str) -> Floats:
    """Return terms and features of experts of one number format."""

    def design_of(key: tuple[int, ...], group: pd.DataFrame) -> Floats:
        hidden, ffn, num_experts, per_token, tp, ep = key
        experts = Experts("experts", hidden, ffn // tp, num_experts, per_token, max(1, num_experts // ep), dtype=dtype)
        tokens, routing = (group[name].to_numpy(float) for name in ("num_tokens", "exponent"))
        return np.hstack(experts_inputs(gpu, ExpertCases(experts, tokens, routing)))

    return _design(rows, EXPERTS_SHAPE, design_of)


def routed_rows(folder: Path) -> pd.DataFrame:
    """Return the rows of experts, with the `exponent` of their routing.

    Rows in unknown formats, or with another routing than a power law, are left out.
    """
    table = read_table(folder, "experts")
    table = table[table["routing"].isin(ROUTINGS) & table["dtype"].isin(WEIGHT_DTYPES)]
    rows = medians(table, ["dtype", *EXPERTS_SHAPE, "routing", "num_tokens"])
    return rows.assign(exponent=rows["routing"].map(ROUTINGS).astype(float))
