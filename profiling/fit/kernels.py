"""Fits the kernel times of a device to its tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from profiling.fit.attention import AttentionSource, fit_attention, measured_extent
from profiling.fit.designs import (
    ELEMENTWISE_SHAPE,
    MATMUL_SHAPE,
    by_shape,
    elementwise_design,
    experts_design,
    gpu_of,
    matmul_design,
    routed_rows,
)
from profiling.fit.regressors import CorrectedPhysicsRegressor, TiledLinesRegressor
from profiling.tables import KERNEL_DURATION, Header, medians, read_table
from simulator.iteration_time import (
    CorrectedPhysics,
    DeviceProfile,
    Elementwise,
    ElementwiseFit,
    ExpertsFit,
    Gpu,
    MatMul,
    MatMulFit,
    TiledLines,
    elementwise_key,
    matmul_key,
)

# From this number of shapes on, one fit to all of them is more accurate than lines of each: neighbouring shapes
# average the noise of single measurements.
GRID_SHAPES = 100
# Time between two kernels of a captured graph, which durations of kernels alone lack: 0.8 us for an empty node on A100
# (github.com/openfabric-systems/simllm, examples/a100_graph_launch_v1), 0.5 us on average on Blackwell
# (NVIDIA/Megatron-LM, pull request 6064).
GRAPH_NODE_S = 0.8e-6
NUM_MATMUL_TERMS, NUM_ELEMENTWISE_TERMS, NUM_EXPERTS_TERMS = 2, 2, 4

Progress = Callable[[str], None]


def matmul_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of GEMMs of any shape, for a few shapes."""
    return CorrectedPhysicsRegressor(NUM_MATMUL_TERMS, max_iter=400, min_samples_leaf=50)


def grid_matmul_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of GEMMs for a grid of shapes."""
    return CorrectedPhysicsRegressor(
        NUM_MATMUL_TERMS,
        max_iter=400,
        learning_rate=0.1,
        max_leaf_nodes=47,
        max_features=0.5,
        loss="squared_error",
    )


def experts_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of experts of any shape."""
    return CorrectedPhysicsRegressor(
        NUM_EXPERTS_TERMS, max_iter=300, learning_rate=0.1, max_features=0.5, loss="squared_error"
    )


def elementwise_regressor() -> CorrectedPhysicsRegressor:
    """Return a regressor of one elementwise operator of any width."""
    return CorrectedPhysicsRegressor(NUM_ELEMENTWISE_TERMS, max_iter=100, max_leaf_nodes=15, max_features=1.0)


def fit_lines(rows: pd.DataFrame) -> TiledLines:
    """Fit straight lines to the rows of one shape."""
    tokens = rows["num_tokens"].to_numpy(float)[:, None]
    return TiledLinesRegressor().fit(tokens, rows["seconds"].to_numpy()).model_


def is_grid(rows: pd.DataFrame) -> bool:
    """Whether GEMM rows are of a grid of shapes."""
    return len(rows[list(MATMUL_SHAPE)].drop_duplicates()) >= GRID_SHAPES


def matmul_rows(folder: Path) -> pd.DataFrame:
    """Return the GEMM rows of a device: medians of repeated measurements."""
    return medians(read_table(folder, "matmul"), ["dtype", *MATMUL_SHAPE, "num_tokens"])


def fit_matmul(gpu: Gpu, rows: pd.DataFrame) -> MatMulFit:
    """Fit GEMMs of one number format."""
    dtype = str(rows["dtype"].iloc[0])
    regressor = grid_matmul_regressor() if is_grid(rows) else matmul_regressor()
    shared = regressor.fit(matmul_design(gpu, rows, dtype), rows["seconds"].to_numpy()).model_
    if is_grid(rows):
        return MatMulFit(shared)
    own = {
        matmul_key(MatMul("matmul", *key)): fit_lines(rows.loc[positions])
        for key, positions in by_shape(rows, MATMUL_SHAPE)
    }
    return MatMulFit(shared, own)


def fit_experts(gpu: Gpu, rows: pd.DataFrame) -> ExpertsFit:
    """Fit experts of one number format."""
    design = experts_design(gpu, rows, str(rows["dtype"].iloc[0]))
    return ExpertsFit(experts_regressor().fit(design, rows["seconds"].to_numpy()).model_)


# --- elementwise operators -------------------------------------------------------------------------------


def elementwise_rows(folders: Sequence[Path]) -> list[tuple[Gpu, pd.DataFrame]]:
    """Return the elementwise rows of each device, with the gaps between kernels."""
    parts = []
    for folder in folders:
        header = Header.read(folder)
        rows = medians(read_table(folder, "elementwise"), ["operator", *ELEMENTWISE_SHAPE, "num_tokens"])
        if header.environment.get("timing") == KERNEL_DURATION:
            rows["seconds"] += GRAPH_NODE_S
        parts.append((gpu_of(header), rows))
    return parts


def _fit_elementwise(folders: Sequence[Path], is_own: bool) -> ElementwiseFit:
    """Fit each operator for any shape, and "any" for operators without rows.

    Rows of the device itself get lines of each shape too.
    """
    parts = elementwise_rows(folders)
    designs = np.concatenate([elementwise_design(gpu, rows) for gpu, rows in parts])
    rows = pd.concat([rows for _, rows in parts], ignore_index=True)
    seconds = rows["seconds"].to_numpy()

    def fitted(inside: Any) -> CorrectedPhysics:
        return elementwise_regressor().fit(designs[inside], seconds[inside]).model_

    shared = {str(name): fitted(positions) for name, positions in rows.groupby("operator").indices.items()}
    return ElementwiseFit(shared | {"any": fitted(slice(None))}, _elementwise_lines(rows) if is_own else {})


def _elementwise_lines(rows: pd.DataFrame) -> dict[str, TiledLines]:
    """Fit straight lines to the rows of each operator and shape."""
    lines = {}
    key: Any
    for key, group in rows.groupby(["operator", *ELEMENTWISE_SHAPE]):
        name, width, degree = key
        lines[elementwise_key(Elementwise(name, int(width), int(degree)))] = fit_lines(group)
    return lines


# --- a device --------------------------------------------------------------------------------------------


def fit_device(
    folder: Path,
    attention_from: Path | None = None,
    elementwise_from: Sequence[Path] = (),
    progress: Progress | None = None,
) -> DeviceProfile:
    """Fit a profile to the tables of a device.

    Args:
        folder: Tables of the device.
        attention_from: Tables of another device whose attention fit is scaled by the ratios of multiprocessors, FLOP
            rate and bandwidth, if the device has too few attention rows.
        elementwise_from: Tables of other devices whose elementwise operators are scaled by the ratio of bandwidths; if
            there are none, the device has its own.
        progress: Called with the name of each step before it begins; None: nothing.

    Raises:
        ValueError: Too few rows.
    """
    report = progress or _ignore
    header = Header.read(folder)
    gpu = gpu_of(header)
    attention = AttentionSource.of(folder, attention_from)
    matmuls = matmul_rows(folder)
    sources = list(elementwise_from) or [folder]
    _require_rows(folder, matmuls, sources)
    fits, experts = {}, {}
    for dtype, rows in _by_format(matmuls):
        report(f"matmul {dtype}")
        fits[dtype] = fit_matmul(gpu, rows)
    report("elementwise")
    elementwise = _fit_elementwise(sources, is_own=not elementwise_from)
    fitted, most_bandwidth = fit_attention(attention, report)
    for dtype, rows in _by_format(routed_rows(folder)):
        report(f"experts {dtype}")
        experts[dtype] = fit_experts(gpu, rows)
    about = {name: value for name, value in asdict(header).items() if name not in asdict(gpu)}
    notes = [*attention.notes, *_elementwise_notes(elementwise_from)]
    return DeviceProfile(
        about=about | {"notes": notes},
        gpu=gpu,
        measured=replace(measured_extent(attention), batch_tokens=int(matmuls["num_tokens"].max())),
        matmul=fits,
        elementwise=elementwise,
        attention=fitted,
        experts=experts,
        most_bandwidth=most_bandwidth,
    )


def _require_rows(folder: Path, matmuls: pd.DataFrame, sources: Sequence[Path]) -> None:
    """Check that the operators of a layer were measured.

    Raises:
        ValueError: Some were not.
    """
    measured = {name for _, rows in elementwise_rows(sources) for name in rows["operator"]}
    if not len(matmuls) or not measured:
        raise ValueError(f"{folder} needs a matmul and an elementwise table")
    if missing := [name for name in ("rope", "activation") if name not in measured]:
        names = " and ".join(missing)
        raise ValueError(f"{folder} has no rows of {names}; --elementwise-from FOLDER takes them from other devices")


def _ignore(_: str) -> None:
    """Report nothing."""


def num_steps(folder: Path) -> int:
    """Return how often `fit_device` reports progress."""
    formats = len(matmul_rows(folder)["dtype"].unique()) + len(routed_rows(folder)["dtype"].unique())
    return formats + 1 + 2 * len(read_table(folder, "attention")["kv_dtype"].unique())


def _by_format(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for dtype, group in rows.groupby("dtype"):
        yield str(dtype), group.reset_index(drop=True)


def _elementwise_notes(folders: Sequence[Path]) -> list[str]:
    sources = [f"{header.device} ({header.source}, {header.engine_generation})" for header in map(Header.read, folders)]
    if not sources:
        return []
    return [
        f"Elementwise operators are those of {' and '.join(sources)}, scaled by the ratio of bandwidths; "
        f"{GRAPH_NODE_S * 1e6:.1f} us are added for the gap before the next kernel of a graph."
    ]
