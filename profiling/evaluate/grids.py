"""Scores on held-out rows of devices with a grid of shapes."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator

from profiling.evaluate.scores import HELD_OUT_SHARE, SEED, Bools, Score, held_out_tokens, score
from profiling.fit.attention import pooled_regressor
from profiling.fit.designs import (
    ATTENTION_SHAPE,
    EXPERTS_SHAPE,
    MATMUL_SHAPE,
    attention_design,
    experts_design,
    gpu_of,
    matmul_design,
)
from profiling.fit.kernels import experts_regressor, grid_matmul_regressor
from profiling.fit.regressors import CorrectedPhysicsRegressor
from profiling.tables import Header
from simulator.iteration_time import Floats

# Number of tokens from which batches are compute-bound.
RANGES = {"all": (0, np.inf), "1-64": (0, 64), "65-1024": (65, 1024), "from 1025": (1025, np.inf)}


def matmul_scores(header: Header, rows: pd.DataFrame, dtype: str, baseline: bool) -> Iterator[Score]:
    """Yield the scores of GEMMs on held-out tokens and shapes."""
    key = {"device": header.device, "operator": f"matmul {dtype}", "model": "corrected physics"}
    design = matmul_design(gpu_of(header), rows, dtype)
    shape = list(MATMUL_SHAPE)
    splits = {"tokens": held_out_tokens(rows, shape), "shape": held_out_shapes(rows, shape)}
    for split, held_out in splits.items():
        predicted = _fitted(grid_matmul_regressor, design, rows, held_out)
        yield from _by_tokens(key | {"split": split}, rows, held_out, predicted)
    if baseline:
        held_out = splits["tokens"]
        predicted = _interpolated(rows, shape, ["num_tokens"], held_out, np.asarray)
        yield from _by_tokens(key | {"split": "tokens", "model": "linear interpolation"}, rows, held_out, predicted)


def attention_scores(header: Header, rows: pd.DataFrame, kv_dtype: str, baseline: bool) -> Iterator[Score]:
    """Yield the scores of attention on held-out rows and shapes."""
    operator = str(rows["operator"].iloc[0])
    key = {"device": header.device, "operator": f"{operator} {kv_dtype}", "tokens": "all", "model": "corrected physics"}
    design = attention_design(gpu_of(header), rows, "pooled", kv_dtype)
    seconds, shape = rows["seconds"].to_numpy(), list(ATTENTION_SHAPE)
    random_rows = np.random.default_rng(SEED).random(len(rows)) < HELD_OUT_SHARE
    for split, held_out in {"configurations": random_rows, "shape": held_out_shapes(rows, shape)}.items():
        predicted = _fitted(pooled_regressor, design, rows, held_out)
        yield score(key | {"split": split}, seconds[held_out], predicted[held_out])
    if baseline:
        sizes = ["batch", "context" if operator == "decode_attention" else "num_tokens"]
        for model, scale in (("linear interpolation", np.asarray), ("interpolation of logarithms", np.log)):
            predicted = _interpolated(rows, shape, sizes, random_rows, scale)
            known = random_rows & ~np.isnan(predicted)
            yield score(key | {"split": "configurations", "model": model}, seconds[known], predicted[known])


def experts_scores(header: Header, rows: pd.DataFrame) -> Iterator[Score]:
    """Yield the scores of experts on held-out rows and on held-out shapes."""
    for dtype, group in rows.groupby("dtype"):
        inside = group.reset_index(drop=True)
        design = experts_design(gpu_of(header), inside, str(dtype))
        random_rows = np.random.default_rng(SEED).random(len(inside)) < HELD_OUT_SHARE
        shapes = held_out_shapes(inside, [name for name in EXPERTS_SHAPE if name not in ("tp", "ep")])
        key = {"device": header.device, "operator": f"experts {dtype}", "model": "corrected physics"}
        for split, held_out in {"configurations": random_rows, "shape": shapes}.items():
            if held_out.any() and not held_out.all():
                predicted = _fitted(experts_regressor, design, inside, held_out)
                yield from _by_tokens(key | {"split": split}, inside, held_out, predicted)


def held_out_shapes(rows: pd.DataFrame, shape: list[str]) -> Bools:
    """Mark the rows of a random fifth of the shapes: bool[n]."""
    number = rows.groupby(shape).ngroup().to_numpy()
    count = int(number.max()) + 1
    chosen = np.random.default_rng(SEED).choice(count, round(HELD_OUT_SHARE * count), replace=False)  # nosec B311
    return np.isin(number, chosen)


def _fitted(
    regressor: Callable[[], CorrectedPhysicsRegressor], design: Floats, rows: pd.DataFrame, held_out: Bools
) -> Floats:
    """Predict the held-out rows from the others; other rows stay NaN."""
    predicted = np.full(len(rows), np.nan)
    fitted = regressor().fit(design[~held_out], rows["seconds"].to_numpy()[~held_out])
    predicted[held_out] = fitted.predict(design[held_out])
    return predicted


def _interpolated(
    rows: pd.DataFrame, shape: list[str], sizes: list[str], held_out: Bools, scale: Callable[[Floats], Floats]
) -> Floats:
    """Interpolate held-out rows between the others of their shape.

    Interpolation is linear in sizes and times on the given scale.
    """
    predicted = np.full(len(rows), np.nan)
    seconds = rows["seconds"].to_numpy()
    for positions in rows.groupby(shape).indices.values():
        inside = np.asarray(positions)
        train, test = inside[~held_out[inside]], inside[held_out[inside]]
        known, wanted = (scale(rows[sizes].to_numpy(float)[part]) for part in (train, test))
        if not len(test):
            continue
        if len(sizes) == 1:
            order = np.argsort(known[:, 0])
            times = scale(seconds[train])[order]
            between = np.interp(wanted[:, 0], known[order, 0], times, left=np.nan, right=np.nan)
        else:
            between = LinearNDInterpolator(known, scale(seconds[train]), rescale=True)(wanted)
        predicted[test] = np.exp(between) if scale is np.log else between
    return predicted


def _by_tokens(key: dict[str, str], rows: pd.DataFrame, held_out: Bools, predicted: Floats) -> Iterator[Score]:
    tokens, seconds = rows["num_tokens"].to_numpy(), rows["seconds"].to_numpy()
    for name, (first, last) in RANGES.items():
        chosen = held_out & (tokens >= first) & (tokens <= last) & ~np.isnan(predicted)
        if chosen.any():
            yield score(key | {"tokens": name}, seconds[chosen], predicted[chosen])
