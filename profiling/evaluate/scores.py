"""Scores of predictions on held-out rows, and the baseline."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from simulator.iteration_time import Floats

SEED = 0
HELD_OUT_SHARE = 0.2
NUM_TREES = 100
NUM_CORES = 2
BATCHED = (65, 512)  # numbers of tokens in the batches of a token budget of 512
ROW = ["model", "tp", "operator"]
Bools = NDArray[np.bool_]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """Error of one model on one split.

    Attributes:
        device: Name of the device.
        operator: Operator, or a family for all its operators.
        split: What was held out: tokens, shape, model, configurations, sizes, device, or all beyond a size.
        tokens: Range of the number of tokens; for messages, of bytes.
        model: Name of the regressor.
        median: Median of the absolute error, per cent.
        p95: 95th percentile of the absolute error, per cent.
        bias: Median of the signed error, per cent; above 0: predicted too slow.
        num_rows: Number of predicted rows.
    """

    device: str
    operator: str
    split: str
    tokens: str
    model: str
    median: float
    p95: float
    bias: float
    num_rows: int


def score(key: dict[str, str], measured: Floats, predicted: Floats) -> Score:
    """Return the score of predictions."""
    error = (predicted / measured - 1) * 100
    absolute = np.abs(error)
    figures = (np.median(absolute), np.percentile(absolute, 95), np.median(error))
    median, p95, bias = (round(float(figure), 2) for figure in figures)
    return Score(**key, median=median, p95=p95, bias=bias, num_rows=len(error))


def held_out_tokens(rows: pd.DataFrame, keys: list[str]) -> Bools:
    """Mark the rows at held-out numbers of tokens: bool[n].

    A random fifth of the distinct numbers of tokens of each group is held out.
    """
    random = np.random.default_rng(SEED)
    held_out = np.zeros(len(rows), dtype=bool)
    for positions in rows.groupby(keys).indices.values():
        counts = np.unique(rows["num_tokens"].to_numpy()[positions])
        chosen = random.choice(counts, round(HELD_OUT_SHARE * len(counts)), replace=False)  # nosec B311
        held_out[positions] = np.isin(rows["num_tokens"].to_numpy()[positions], chosen)
    return held_out


def forest(train: Floats, seconds: Floats, test: Floats) -> Floats:
    """Fit the baseline and predict."""
    baseline = RandomForestRegressor(NUM_TREES, random_state=SEED, n_jobs=NUM_CORES)
    return np.asarray(baseline.fit(train, seconds).predict(test))


def without_shapes_of(rows: pd.DataFrame, shape: list[str], inside: Bools) -> Bools:
    """Mark rows whose shape no row in `inside` has: bool[n]."""
    shapes = pd.MultiIndex.from_frame(rows[shape])
    return ~np.asarray(shapes.isin(shapes[inside]))
