"""Fits the kernel times of a device to its tables."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from profiling.fit.regressors import CorrectedPhysicsRegressor, TiledLinesRegressor
from profiling.tables import Header, TableError, medians, read_table
from simulator.iteration_time import (
    Attention,
    AttentionFit,
    CorrectedPhysics,
    DeviceProfile,
    Elementwise,
    Extent,
    Floats,
    Gpu,
    MatMul,
    TiledLines,
    attention_key,
    decode_features,
    decode_terms,
    elementwise_features,
    elementwise_key,
    elementwise_terms,
    matmul_features,
    matmul_key,
    matmul_terms,
    prefill_features,
    prefill_terms,
)

MATMUL_SHAPE = ("k", "n")
ELEMENTWISE_SHAPE = ("width", "tp")
ATTENTION_SHAPE = ("q_heads", "kv_heads", "head_dim")
# Decode attention reads at most this share of the HBM bandwidth; faster measurements found keys and values in the L2
# cache of the benchmark.
MAX_BANDWIDTH_SHARE = 0.85
# Fewer attention rows do not support a fit.
MIN_ATTENTION_ROWS = 100
NUM_MATMUL_TERMS, NUM_ELEMENTWISE_TERMS, NUM_PREFILL_TERMS, NUM_DECODE_TERMS = 2, 2, 6, 4


def gpu_of(header: Header) -> Gpu:
    """Return the peak rates of the device of a header."""
    return Gpu(header.num_sms, header.peak_tflops, header.bandwidth_gb_per_s)


# --- GEMMs -----------------------------------------------------------------------------------------------


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


def matmul_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Return terms and features of GEMMs: float64[n, terms + features]."""

    def design_of(key: tuple[int, ...], group: pd.DataFrame) -> Floats:
        operator, tokens = MatMul("matmul", *key), group["num_tokens"].to_numpy(float)
        return np.hstack([matmul_terms(gpu, operator, tokens), matmul_features(gpu, operator, tokens)])

    return _design(rows, MATMUL_SHAPE, design_of)


def matmul_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of GEMMs of any shape."""
    return CorrectedPhysicsRegressor(NUM_MATMUL_TERMS, max_iter=400, min_samples_leaf=50)


def fit_lines(rows: pd.DataFrame) -> TiledLines:
    """Fit straight lines to the rows of one shape."""
    tokens = rows["num_tokens"].to_numpy(float)[:, None]
    return TiledLinesRegressor().fit(tokens, rows["seconds"].to_numpy()).model_


# --- elementwise operators -------------------------------------------------------------------------------


def elementwise_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Return terms and features of elementwise operators: float64[n, terms + features]."""

    def design_of(key: tuple[int, ...], group: pd.DataFrame) -> Floats:
        operator, tokens = Elementwise("any", *key), group["num_tokens"].to_numpy(float)
        return np.hstack([elementwise_terms(gpu, operator, tokens), elementwise_features(operator, tokens)])

    return _design(rows, ELEMENTWISE_SHAPE, design_of)


def elementwise_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of one elementwise operator of any width."""
    return CorrectedPhysicsRegressor(NUM_ELEMENTWISE_TERMS, max_iter=100, max_leaf_nodes=15, max_features=1.0)


def fit_elementwise(gpu: Gpu, rows: pd.DataFrame) -> CorrectedPhysics:
    """Fit one elementwise operator of any width."""
    return elementwise_regressor().fit(elementwise_design(gpu, rows), rows["seconds"].to_numpy()).model_


def _elementwise_lines(rows: pd.DataFrame) -> dict[str, TiledLines]:
    """Fit straight lines to the rows of each operator and shape."""
    lines = {}
    key: Any
    for key, group in rows.groupby(["operator", *ELEMENTWISE_SHAPE]):
        name, width, degree = key
        lines[elementwise_key(Elementwise(name, int(width), int(degree)))] = fit_lines(group)
    return lines


def _elementwise_fits(gpu: Gpu, rows: pd.DataFrame) -> dict[str, CorrectedPhysics]:
    """Fit each operator for any shape, and "any" for operators without rows."""
    fits = {str(name): fit_elementwise(gpu, group) for name, group in rows.groupby("operator")}
    return fits | {"any": fit_elementwise(gpu, rows)}


# --- attention -------------------------------------------------------------------------------------------


def prefill_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Return terms and features of prefill attention: float64[n, terms + features]."""

    def design_of(key: tuple[int, ...], group: pd.DataFrame) -> Floats:
        at = Attention(*key), group["num_tokens"].to_numpy(float), group["context"].to_numpy(float)
        return np.hstack([prefill_terms(gpu, *at), prefill_features(gpu, *at)])

    return _design(rows, ATTENTION_SHAPE, design_of)


def decode_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Return terms and features of decode attention: float64[n, terms + features]."""

    def design_of(key: tuple[int, ...], group: pd.DataFrame) -> Floats:
        at = Attention(*key), group["batch"].to_numpy(float), group["context"].to_numpy(float)
        return np.hstack([decode_terms(gpu, *at), decode_features(gpu, *at)])

    return _design(rows, ATTENTION_SHAPE, design_of)


def prefill_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of prefill attention of any shape."""
    return CorrectedPhysicsRegressor(
        NUM_PREFILL_TERMS, max_iter=200, max_leaf_nodes=15, min_samples_leaf=30, max_features=1.0
    )


def decode_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of decode attention of any shape."""
    return CorrectedPhysicsRegressor(
        NUM_DECODE_TERMS, max_iter=300, learning_rate=0.1, max_leaf_nodes=31, max_features=1.0
    )


def own_attention_regressor(num_terms: int) -> CorrectedPhysicsRegressor:
    """Return a regressor of attention of one shape, for its own rows."""
    return CorrectedPhysicsRegressor(
        num_terms, max_iter=300, learning_rate=0.1, min_samples_leaf=5, max_features=1.0, loss="squared_error"
    )


def within_bandwidth(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Return seconds of decode attention, bounded below by the HBM bandwidth: float64[n]."""
    num_bytes = 4.0 * rows["kv_heads"] * rows["head_dim"] * rows["batch"] * rows["context"]
    min_s = gpu.memory_s(num_bytes.to_numpy(float)) / MAX_BANDWIDTH_SHARE
    return np.asarray(np.maximum(rows["seconds"].to_numpy(), min_s))


def attention_rows(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return prefill and decode rows of a device: medians of repeated measurements."""
    rows = medians(read_table(folder, "attention"), ["operator", *ATTENTION_SHAPE, "num_tokens", "batch", "context"])
    parts = (rows[rows["operator"] == name] for name in ("prefill_attention", "decode_attention"))
    prefill, decode = (part.reset_index(drop=True) for part in parts)
    return prefill, decode[decode["context"] > 0].reset_index(drop=True)


def fit_attention(
    rows: pd.DataFrame, design: Floats, seconds: Floats, regressor: CorrectedPhysicsRegressor
) -> AttentionFit:
    """Fit one phase of attention.

    Each shape with enough rows is fitted alone; all rows together give the fit for other shapes.
    """
    own = {}
    for key, positions in by_shape(rows, ATTENTION_SHAPE):
        if len(positions) >= MIN_ATTENTION_ROWS:
            fitted = own_attention_regressor(regressor.num_terms).fit(design[positions], seconds[positions])
            own[attention_key(Attention(*key))] = fitted.model_
    return AttentionFit(own, regressor.fit(design, seconds).model_)


def physics_only(fitted: CorrectedPhysics) -> CorrectedPhysics:
    """Return a fit without its trees."""
    return CorrectedPhysics(fitted.coefficients, None)


# --- a device --------------------------------------------------------------------------------------------


def is_derived(folder: Path, attention_from: Path | None) -> bool:
    """Whether a device's attention fit comes from another device.

    It does if the device has too few attention rows.

    Raises:
        TableError: It has too few rows and no other device is named, or that device has too few as well.
    """
    if _enough_attention(folder):
        return False
    if attention_from is None:
        raise TableError(
            f"{folder} has fewer than {MIN_ATTENTION_ROWS} rows of prefill or of decode attention: "
            "name a device to derive attention from, --attention-from DEVICE"
        )
    if not _enough_attention(attention_from):
        raise TableError(f"{attention_from} has fewer than {MIN_ATTENTION_ROWS} rows of attention too")
    return True


def _enough_attention(folder: Path) -> bool:
    return all(len(rows) >= MIN_ATTENTION_ROWS for rows in attention_rows(folder))


def fit_device(folder: Path, attention_from: Path | None = None) -> DeviceProfile:
    """Fit a profile to the tables of a device.

    Args:
        folder: Tables of the device.
        attention_from: Tables of another device whose attention fit is scaled by the ratios of multiprocessors, FLOP
            rate and bandwidth, if the device has too few attention rows.

    Raises:
        TableError: Too few rows.
    """
    header = Header.read(folder)
    gpu = gpu_of(header)
    matmuls = medians(read_table(folder, "matmul"), [*MATMUL_SHAPE, "num_tokens"])
    elementwise = medians(read_table(folder, "elementwise"), ["operator", *ELEMENTWISE_SHAPE, "num_tokens"])
    if not len(matmuls) or not len(elementwise):
        raise TableError(f"{folder} needs a matmul and an elementwise table")
    source = attention_from if is_derived(folder, attention_from) else folder
    assert source is not None
    prefill, decode, measured = _fit_attention(source)
    notes = []
    if source != folder:
        # Corrections of prefill model waves and groups of heads, which transfer to another device. Those of decode
        # model kernels of a few microseconds, which do not.
        prefill, decode = AttentionFit({}, prefill.transfer), AttentionFit({}, physics_only(decode.transfer))
        notes.append(
            f"Attention is derived: the fit to {Header.read(source).device} is carried over by the ratios of "
            "multiprocessors, FLOP rate and bandwidth, because there are too few rows of the device itself."
        )
    return DeviceProfile(
        about={name: value for name, value in asdict(header).items() if name not in asdict(gpu)} | {"notes": notes},
        gpu=gpu,
        measured=replace(measured, batch_tokens=int(matmuls["num_tokens"].max())),
        matmul_own={
            matmul_key(MatMul("matmul", *key)): fit_lines(matmuls.loc[positions])
            for key, positions in by_shape(matmuls, MATMUL_SHAPE)
        },
        matmul=matmul_regressor().fit(matmul_design(gpu, matmuls), matmuls["seconds"].to_numpy()).model_,
        elementwise_own=_elementwise_lines(elementwise),
        elementwise=_elementwise_fits(gpu, elementwise),
        prefill=prefill,
        decode=decode,
        most_bandwidth=MAX_BANDWIDTH_SHARE,
    )


def _fit_attention(folder: Path) -> tuple[AttentionFit, AttentionFit, Extent]:
    """Fit prefill and decode attention; return fits and measured range."""
    gpu = gpu_of(Header.read(folder))
    prefill, decode = attention_rows(folder)
    seconds = prefill["seconds"].to_numpy()
    return (
        fit_attention(prefill, prefill_design(gpu, prefill), seconds, prefill_regressor()),
        fit_attention(decode, decode_design(gpu, decode), within_bandwidth(gpu, decode), decode_regressor()),
        Extent(
            num_decodes=int(decode["batch"].max()),
            decode_context_tokens=int(decode["context"].max()),
            prefill_tokens=int((prefill["num_tokens"] + prefill["context"]).max()),
        ),
    )
