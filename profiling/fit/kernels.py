"""Fits the kernel times of a device to its tables of measurements."""

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
# Decode attention cannot read faster than this share of the HBM bandwidth; measured times that say so
# come from keys and values that stayed in the L2 cache of a benchmark.
MOST_BANDWIDTH = 0.85
# Fewer attention rows than this do not carry a fit of their own.
FEWEST_ATTENTION_ROWS = 100
NUM_MATMUL_TERMS, NUM_ELEMENTWISE_TERMS, NUM_PREFILL_TERMS, NUM_DECODE_TERMS = 2, 2, 6, 4


def gpu_of(header: Header) -> Gpu:
    """Return the peaks of the device of some tables."""
    return Gpu(header.num_sms, header.peak_tflops, header.bandwidth_gb_per_s)


# --- matrix products -------------------------------------------------------------------------------------


def by_shape(rows: pd.DataFrame, shape: tuple[str, ...]) -> Iterator[tuple[tuple[int, ...], "pd.Index[int]"]]:
    """Yield each shape and the places of its rows, 0, 1, ...; the rows must be so numbered."""
    key: Any
    for key, places in rows.groupby(list(shape)).indices.items():
        yield tuple(int(one) for one in np.atleast_1d(key)), pd.Index(places)


def _design(
    rows: pd.DataFrame, shape: tuple[str, ...], of_shape: Callable[[tuple[int, ...], pd.DataFrame], Floats]
) -> Floats:
    """Stack what a function gives for the rows of each shape, in the order of the rows."""
    numbered = rows.reset_index(drop=True)
    parts = [(places, of_shape(key, numbered.loc[places])) for key, places in by_shape(numbered, shape)]
    whole = np.empty((len(rows), parts[0][1].shape[1]))
    for places, part in parts:
        whole[places] = part
    return whole


def matmul_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Terms and features of matrix products: float64[n, terms + features]."""

    def of_shape(key: tuple[int, ...], inside: pd.DataFrame) -> Floats:
        operator, tokens = MatMul("matmul", *key), inside["num_tokens"].to_numpy(float)
        return np.hstack([matmul_terms(gpu, operator, tokens), matmul_features(gpu, operator, tokens)])

    return _design(rows, MATMUL_SHAPE, of_shape)


def matmul_regressor() -> CorrectedPhysicsRegressor:
    """Matrix products of any shape."""
    return CorrectedPhysicsRegressor(NUM_MATMUL_TERMS, max_iter=400, min_samples_leaf=50)


def fit_lines(rows: pd.DataFrame) -> TiledLines:
    """Lines through the rows of one shape."""
    tokens = rows["num_tokens"].to_numpy(float)[:, None]
    return TiledLinesRegressor().fit(tokens, rows["seconds"].to_numpy()).model_


# --- elementwise operators -------------------------------------------------------------------------------


def elementwise_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Terms and features of elementwise operators: float64[n, terms + features]."""

    def of_shape(key: tuple[int, ...], inside: pd.DataFrame) -> Floats:
        operator, tokens = Elementwise("any", *key), inside["num_tokens"].to_numpy(float)
        return np.hstack([elementwise_terms(gpu, operator, tokens), elementwise_features(operator, tokens)])

    return _design(rows, ELEMENTWISE_SHAPE, of_shape)


def elementwise_regressor() -> CorrectedPhysicsRegressor:
    """One elementwise operator of any width."""
    return CorrectedPhysicsRegressor(NUM_ELEMENTWISE_TERMS, max_iter=100, max_leaf_nodes=15, max_features=1.0)


def fit_elementwise(gpu: Gpu, rows: pd.DataFrame) -> CorrectedPhysics:
    """Fit one elementwise operator of any width."""
    return elementwise_regressor().fit(elementwise_design(gpu, rows), rows["seconds"].to_numpy()).model_


def _elementwise_lines(rows: pd.DataFrame) -> dict[str, TiledLines]:
    """Lines through the rows of each operator and shape."""
    found = {}
    key: Any
    for key, inside in rows.groupby(["operator", *ELEMENTWISE_SHAPE]):
        name, width, degree = key
        found[elementwise_key(Elementwise(name, int(width), int(degree)))] = fit_lines(inside)
    return found


def _elementwise_fits(gpu: Gpu, rows: pd.DataFrame) -> dict[str, CorrectedPhysics]:
    """Fit each operator for any shape, and "any" for operators without rows."""
    fits = {str(name): fit_elementwise(gpu, inside) for name, inside in rows.groupby("operator")}
    return fits | {"any": fit_elementwise(gpu, rows)}


# --- attention -------------------------------------------------------------------------------------------


def prefill_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Terms and features of prefill attention: float64[n, terms + features]."""

    def of_shape(key: tuple[int, ...], inside: pd.DataFrame) -> Floats:
        at = Attention(*key), inside["num_tokens"].to_numpy(float), inside["context"].to_numpy(float)
        return np.hstack([prefill_terms(gpu, *at), prefill_features(gpu, *at)])

    return _design(rows, ATTENTION_SHAPE, of_shape)


def decode_design(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Terms and features of decode attention: float64[n, terms + features]."""

    def of_shape(key: tuple[int, ...], inside: pd.DataFrame) -> Floats:
        at = Attention(*key), inside["batch"].to_numpy(float), inside["context"].to_numpy(float)
        return np.hstack([decode_terms(gpu, *at), decode_features(gpu, *at)])

    return _design(rows, ATTENTION_SHAPE, of_shape)


def prefill_regressor() -> CorrectedPhysicsRegressor:
    """Prefill attention of any shape."""
    return CorrectedPhysicsRegressor(
        NUM_PREFILL_TERMS, max_iter=200, max_leaf_nodes=15, min_samples_leaf=30, max_features=1.0
    )


def decode_regressor() -> CorrectedPhysicsRegressor:
    """Decode attention of any shape."""
    return CorrectedPhysicsRegressor(
        NUM_DECODE_TERMS, max_iter=300, learning_rate=0.1, max_leaf_nodes=31, max_features=1.0
    )


def own_attention_regressor(num_terms: int) -> CorrectedPhysicsRegressor:
    """Attention of one shape, fitted to its own rows."""
    return CorrectedPhysicsRegressor(
        num_terms, max_iter=300, learning_rate=0.1, min_samples_leaf=5, max_features=1.0, loss="squared_error"
    )


def within_bandwidth(gpu: Gpu, rows: pd.DataFrame) -> Floats:
    """Seconds of decode attention, none below what the HBM allows: float64[n]."""
    num_bytes = 4.0 * rows["kv_heads"] * rows["head_dim"] * rows["batch"] * rows["context"]
    least = gpu.memory_s(num_bytes.to_numpy(float)) / MOST_BANDWIDTH
    return np.asarray(np.maximum(rows["seconds"].to_numpy(), least))


def attention_rows(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prefill and decode rows of a device: medians of what was measured more than once."""
    rows = medians(read_table(folder, "attention"), ["operator", *ATTENTION_SHAPE, "num_tokens", "batch", "context"])
    parts = (rows[rows["operator"] == name] for name in ("prefill_attention", "decode_attention"))
    prefill, decode = (part.reset_index(drop=True) for part in parts)
    return prefill, decode[decode["context"] > 0].reset_index(drop=True)


def fit_attention(
    rows: pd.DataFrame, design: Floats, seconds: Floats, regressor: CorrectedPhysicsRegressor
) -> AttentionFit:
    """Fit one phase: each shape with enough rows for itself, and all together for other shapes."""
    own = {}
    for key, places in by_shape(rows, ATTENTION_SHAPE):
        if len(places) >= FEWEST_ATTENTION_ROWS:
            fitted = own_attention_regressor(regressor.num_terms).fit(design[places], seconds[places])
            own[attention_key(Attention(*key))] = fitted.model_
    return AttentionFit(own, regressor.fit(design, seconds).model_)


def physics_only(fitted: CorrectedPhysics) -> CorrectedPhysics:
    """Keep the weights of the physics."""
    return CorrectedPhysics(fitted.coefficients, None)


# --- a device --------------------------------------------------------------------------------------------


def is_derived(folder: Path, attention_from: Path | None) -> bool:
    """Whether the attention of a device is carried over from another one, because it has too few rows.

    Raises:
        TableError: It has too few rows and no other device is named, or that one has too few as well.
    """
    if _enough_attention(folder):
        return False
    if attention_from is None:
        raise TableError(
            f"{folder} has fewer than {FEWEST_ATTENTION_ROWS} rows of prefill or of decode attention: "
            "name a device to derive it from, --attention-from DEVICE"
        )
    if not _enough_attention(attention_from):
        raise TableError(f"{attention_from} has fewer than {FEWEST_ATTENTION_ROWS} rows of attention itself")
    return True


def _enough_attention(folder: Path) -> bool:
    return all(len(rows) >= FEWEST_ATTENTION_ROWS for rows in attention_rows(folder))


def fit_device(folder: Path, attention_from: Path | None = None) -> DeviceProfile:
    """Fit the tables of a device.

    Args:
        folder: Its tables.
        attention_from: Tables of another device whose attention is carried over by the ratios of
            multiprocessors, FLOP rate and bandwidth, if the device has too few rows of its own.

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
        # Corrections of prefill are about waves and groups of heads, which carry over. Those of decode are about
        # kernels of few microseconds, which do not.
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
            matmul_key(MatMul("matmul", *key)): fit_lines(matmuls.loc[places])
            for key, places in by_shape(matmuls, MATMUL_SHAPE)
        },
        matmul=matmul_regressor().fit(matmul_design(gpu, matmuls), matmuls["seconds"].to_numpy()).model_,
        elementwise_own=_elementwise_lines(elementwise),
        elementwise=_elementwise_fits(gpu, elementwise),
        prefill=prefill,
        decode=decode,
        most_bandwidth=MOST_BANDWIDTH,
    )


def _fit_attention(folder: Path) -> tuple[AttentionFit, AttentionFit, Extent]:
    """Prefill and decode attention of a device, and how far they were measured."""
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
