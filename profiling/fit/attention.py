"""Fits attention, in both phases and each format of the KV cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from profiling.fit.designs import ATTENTION_SHAPE, attention_design, by_shape, gpu_of
from profiling.fit.regressors import CorrectedPhysicsRegressor
from profiling.tables import Header, medians, read_table
from simulator.iteration_time import (
    NUM_TERMS,
    Attention,
    AttentionFit,
    AttentionFits,
    CorrectedPhysics,
    Extent,
    Floats,
    Gpu,
    attention_key,
)

HALF_FORMATS = ("bf16", "fp16")
# Fewer rows of a shape do not support a fit of its own; fewer rows of a phase support none.
MIN_OWN_ROWS, MIN_ROWS = 100, 90
# From this number of shapes on, one fit to all of them is as accurate as a fit of each.
GRID_SHAPES = 20
# Share of the HBM bandwidth that decodes of few measured shapes may attain, if no large ones attained more. Where some
# exceed the bandwidth, their keys and values were in the L2 cache.
BANDWIDTH_SHARE = 0.85
# Keys and values of more bytes come from the HBM.
LARGE_BYTES = 400e6

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Phase:
    """How one phase of attention is fitted.

    Attributes:
        operator: Name of its rows.
        own_design: Inputs of fits to few shapes.
        regressor: Makes the regressor of all those shapes.
    """

    operator: str
    own_design: str
    regressor: Callable[[], CorrectedPhysicsRegressor]


def _prefill_regressor() -> CorrectedPhysicsRegressor:
    return CorrectedPhysicsRegressor(
        NUM_TERMS["chunk"], max_iter=200, max_leaf_nodes=15, min_samples_leaf=30, max_features=1.0
    )


def _decode_regressor() -> CorrectedPhysicsRegressor:
    return CorrectedPhysicsRegressor(
        NUM_TERMS["blocks"], max_iter=300, learning_rate=0.1, max_leaf_nodes=31, max_features=1.0
    )


PREFILL = Phase("prefill_attention", "chunk", _prefill_regressor)
DECODE = Phase("decode_attention", "blocks", _decode_regressor)


def pooled_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of attention for a grid of shapes."""
    return CorrectedPhysicsRegressor(
        NUM_TERMS["pooled"], max_iter=300, learning_rate=0.1, max_features=0.5, loss="squared_error"
    )


def own_regressor(num_terms: int) -> CorrectedPhysicsRegressor:
    """Return a regressor of attention of one shape, for its own rows."""
    return CorrectedPhysicsRegressor(
        num_terms, max_iter=300, learning_rate=0.1, min_samples_leaf=5, max_features=1.0, loss="squared_error"
    )


def attention_rows(folder: Path, phase: Phase, kv_dtype: str = "bf16") -> pd.DataFrame:
    """Return the rows of a phase, without sliding windows.

    They are medians of repeated measurements.
    """
    table = read_table(folder, "attention")
    formats = HALF_FORMATS if kv_dtype in HALF_FORMATS else (kv_dtype,)
    table = table[(table["operator"] == phase.operator) & table["kv_dtype"].isin(formats) & (table["window"] == 0)]
    rows = medians(table, ["operator", *ATTENTION_SHAPE, "num_tokens", "batch", "context"])
    return rows[(rows["context"] > 0) | (phase is PREFILL)].reset_index(drop=True)


def is_grid(rows: pd.DataFrame) -> bool:
    """Whether attention rows are of a grid of shapes."""
    return len(rows[list(ATTENTION_SHAPE)].drop_duplicates()) >= GRID_SHAPES


@dataclass(frozen=True)
class AttentionSource:
    """Tables that the attention of a device is fitted to.

    Attributes:
        folder: Folder of the rows.
        is_derived: Whether they are of another device.
        formats: Number formats of the KV cache that were measured.
        notes: What a reader of the profile must know.
    """

    folder: Path
    is_derived: bool
    formats: Sequence[str]
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, folder: Path, attention_from: Path | None) -> "AttentionSource":
        """Return the tables for a device.

        Raises:
            ValueError: It has too few rows and no other device is named, or that device has too few as well.
        """
        if _has_enough(folder):
            return cls(folder, False, _formats(folder))
        if attention_from is None:
            raise ValueError(
                f"{folder} has fewer than {MIN_ROWS} rows of prefill or of decode attention: "
                "name a device to derive attention from, --attention-from DEVICE"
            )
        if not _has_enough(attention_from):
            raise ValueError(f"{attention_from} has fewer than {MIN_ROWS} rows of attention too")
        note = (
            f"Attention is derived: the fit to {Header.read(attention_from).device} is carried over by the ratios of "
            "multiprocessors, FLOP rate and bandwidth, because there are too few rows of the device itself."
        )
        return cls(attention_from, True, _formats(attention_from), (note,))


def fit_attention(source: AttentionSource, progress: Progress) -> tuple[dict[str, AttentionFits], float]:
    """Fit attention over keys and values of each measured format.

    Returns:
        Fits by format ("bf16" for half precision), and the largest share of the bandwidth that decodes attain.
    """
    fits = {}
    share = _most_bandwidth(source)
    gpu = gpu_of(Header.read(source.folder))
    for kv_dtype in source.formats:
        progress(f"prefill attention {kv_dtype}")
        prefill_rows = attention_rows(source.folder, PREFILL, kv_dtype)
        prefill = fit_phase(gpu, prefill_rows, prefill_rows["seconds"].to_numpy(), PREFILL, kv_dtype)
        progress(f"decode attention {kv_dtype}")
        decode_rows = attention_rows(source.folder, DECODE, kv_dtype)
        decode = fit_phase(gpu, decode_rows, within_bandwidth(gpu, decode_rows, share, kv_dtype), DECODE, kv_dtype)
        if source.is_derived:
            # Corrections of prefill model waves and groups of heads, which transfer to another device. Those of decode
            # model kernels of a few microseconds, which do not.
            prefill = AttentionFit(prefill.design, prefill.shared)
            decode = AttentionFit(decode.design, physics_only(decode.shared))
        fits[kv_dtype] = AttentionFits(prefill, decode, one_kernel=is_grid(decode_rows))
    return fits, share


def fit_phase(gpu: Gpu, rows: pd.DataFrame, seconds: Floats, phase: Phase, kv_dtype: str) -> AttentionFit:
    """Fit one phase of attention in one format of the KV cache.

    A grid of shapes gets one fit; of a few shapes, each with enough rows is fitted alone too.
    """
    if is_grid(rows):
        design = attention_design(gpu, rows, "pooled", kv_dtype)
        return AttentionFit("pooled", pooled_regressor().fit(design, seconds).model_)
    design = attention_design(gpu, rows, phase.own_design, kv_dtype)
    regressor = phase.regressor()
    own = {}
    for key, positions in by_shape(rows, ATTENTION_SHAPE):
        if len(positions) >= MIN_OWN_ROWS:
            fitted = own_regressor(regressor.num_terms).fit(design[positions], seconds[positions])
            own[attention_key(Attention(*key))] = fitted.model_
    return AttentionFit(phase.own_design, regressor.fit(design, seconds).model_, own)


def within_bandwidth(gpu: Gpu, rows: pd.DataFrame, share: float, kv_dtype: str = "bf16") -> Floats:
    """Return seconds of decode attention, bounded by the HBM bandwidth: float64[n]."""
    return np.asarray(np.maximum(rows["seconds"].to_numpy(), gpu.memory_s(_kv_bytes(rows, kv_dtype)) / share))


def _kv_bytes(rows: pd.DataFrame, kv_dtype: str) -> Floats:
    per_token = Attention(1, 1, 1, kv_dtype=kv_dtype).kv_bytes_per_token
    return (per_token * rows["kv_heads"] * rows["head_dim"] * rows["batch"] * rows["context"]).to_numpy(float)


def _most_bandwidth(source: AttentionSource) -> float:
    """Return the largest share of the bandwidth that decodes attain.

    The 95th percentile of large ones, unless measurements are faster than the memory or few.
    """
    rows = attention_rows(source.folder, DECODE)
    num_bytes = _kv_bytes(rows, "bf16")
    attained = gpu_of(Header.read(source.folder)).memory_s(num_bytes) / rows["seconds"].to_numpy()
    large = attained[num_bytes >= LARGE_BYTES]
    if len(large) == 0 or large.max() > 1:
        return BANDWIDTH_SHARE
    share = round(float(np.percentile(large, 95)), 3)
    return share if is_grid(rows) else max(share, BANDWIDTH_SHARE)


def physics_only(fitted: CorrectedPhysics) -> CorrectedPhysics:
    """Return a fit without its trees."""
    return CorrectedPhysics(fitted.coefficients, None)


def measured_extent(source: AttentionSource) -> Extent:
    """Return the extent of the attention rows."""
    prefill, decode = (attention_rows(source.folder, phase) for phase in (PREFILL, DECODE))
    return Extent(
        num_decodes=int(decode["batch"].max()),
        decode_context_tokens=int(decode["context"].max()),
        prefill_tokens=int((prefill["num_tokens"] + prefill["context"]).max()),
    )


def _formats(folder: Path) -> list[str]:
    formats = set(read_table(folder, "attention")["kv_dtype"].unique())
    others = sorted(name for name in formats - set(HALF_FORMATS) if _has_enough(folder, name))
    return ["bf16", *others]


def _has_enough(folder: Path, kv_dtype: str = "bf16") -> bool:
    return all(len(attention_rows(folder, phase, kv_dtype)) >= MIN_ROWS for phase in (PREFILL, DECODE))
