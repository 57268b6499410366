"""Scores on held-out rows of devices with a few shapes."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from profiling.evaluate.scores import (
    BATCHED,
    HELD_OUT_SHARE,
    ROW,
    SEED,
    Bools,
    Positions,
    Score,
    forest,
    held_out_tokens,
    score,
    without_shapes_of,
)
from profiling.fit.attention import own_regressor
from profiling.fit.designs import ATTENTION_SHAPE
from profiling.fit.kernels import elementwise_regressor, fit_lines, matmul_regressor
from profiling.fit.regressors import CorrectedPhysicsRegressor
from simulator.iteration_time import Floats


def layer_scores(
    device: str, family: str, rows: pd.DataFrame, shape: list[str], design: Floats, baseline: bool
) -> Iterator[Score]:
    """Yield the scores of GEMMs or elementwise operators.

    Args:
        device: Name of the device.
        family: Name of the family.
        rows: Medians by model, tp, operator and num_tokens.
        shape: Columns of a shape.
        design: Terms and features of the regressor of unseen shapes, float64[n, terms + features].
        baseline: Whether to score the random forests too.
    """
    held_out = held_out_tokens(rows, ROW)
    all_rows = np.ones(len(rows), dtype=bool)
    seconds = rows["seconds"].to_numpy()
    predictions = [
        ("tokens", "tiled lines", _from_own_rows(family, rows, shape, held_out), held_out),
        ("model", "corrected physics", _leave_one_model_out(rows, shape, _physics(family, design, rows)), all_rows),
    ]
    if baseline:
        code = rows["operator"].astype("category").cat.codes
        pooled = rows[[*shape, "num_tokens"]].assign(code=code).to_numpy(float)
        transferred = _leave_one_model_out(
            rows, shape, lambda train, test: forest(pooled[train], seconds[train], pooled[test])
        )
        predictions += [
            ("tokens", "random forest per model, tp and operator", _forests(rows, held_out), held_out),
            ("model", "random forest on tokens and shape", transferred, all_rows),
        ]
    for split, model, predicted, tested in predictions:
        yield from _by_operator(device, family, split, model, rows, predicted, tested)


def _from_own_rows(family: str, rows: pd.DataFrame, shape: list[str], held_out: Bools) -> Floats:
    """Predict held-out rows by lines through training rows of their shape."""
    same_shape = rows.groupby(shape if family == "matmul" else ["operator", *shape]).indices
    tokens = rows["num_tokens"].to_numpy(float)
    predicted = np.full(len(rows), np.nan)
    for candidates in map(np.asarray, same_shape.values()):
        for own in rows.iloc[candidates].groupby(ROW).indices.values():
            positions = candidates[np.asarray(own)]
            test = positions[held_out[positions]]
            # Another model may have the same shape; hold out its rows at these numbers of tokens too.
            train = candidates[~np.isin(tokens[candidates], tokens[test])]
            predicted[test] = fit_lines(rows.iloc[train]).predict(tokens[test])
    return predicted


def _forests(rows: pd.DataFrame, held_out: Bools) -> Floats:
    """Predict held-out rows by one forest per model, degree and operator."""
    tokens, seconds = rows[["num_tokens"]].to_numpy(float), rows["seconds"].to_numpy()
    predicted = np.full(len(rows), np.nan)
    for positions in rows.groupby(ROW).indices.values():
        test, train = positions[held_out[positions]], positions[~held_out[positions]]
        predicted[test] = forest(tokens[train], seconds[train], tokens[test])
    return predicted


Predict = Callable[[Bools, Bools], Floats]


def _physics(family: str, design: Floats, rows: pd.DataFrame) -> Predict:
    """Return a function that fits and predicts.

    GEMMs are fitted together, each elementwise operator alone.
    """
    regressor = {"matmul": matmul_regressor, "elementwise": elementwise_regressor}[family]
    operators = rows["operator"].astype("category").cat.codes.to_numpy()
    groups = np.zeros(len(rows)) if family == "matmul" else operators
    seconds = rows["seconds"].to_numpy()

    def predict(train: Bools, test: Bools) -> Floats:
        predicted = np.full(len(rows), np.nan)
        for group in np.unique(groups[test]):
            inside = groups == group
            if not (train & inside).any():
                continue  # only one model was measured; no rows of other shapes
            fitted = regressor().fit(design[train & inside], seconds[train & inside])
            predicted[test & inside] = fitted.predict(design[test & inside])
        return predicted[test]

    return predict


def _leave_one_model_out(rows: pd.DataFrame, shape: list[str], predict: Predict) -> Floats:
    """Predict each model from the other models, without rows of its shapes."""
    predicted = np.full(len(rows), np.nan)
    for model in rows["model"].unique():
        inside = (rows["model"] == model).to_numpy()
        train = without_shapes_of(rows, shape, inside)
        if train.any():
            predicted[inside] = predict(train, inside)
    return predicted


def _by_operator(
    device: str, family: str, split: str, model: str, rows: pd.DataFrame, predicted: Floats, tested: Bools
) -> Iterator[Score]:
    seconds, tokens = rows["seconds"].to_numpy(), rows["num_tokens"].to_numpy()
    tested = tested & ~np.isnan(predicted)
    batched = tested & (tokens >= BATCHED[0]) & (tokens <= BATCHED[1])
    ranges = {"all": tested, f"{BATCHED[0]}-{BATCHED[1]}": batched}
    for name, chosen in ranges.items():
        key = {"device": device, "split": split, "model": model, "tokens": name}
        if chosen.any():
            yield score(key | {"operator": family}, seconds[chosen], predicted[chosen])
    for operator in sorted(rows["operator"].unique()):
        chosen = tested & (rows["operator"] == operator).to_numpy()
        key = {"device": device, "split": split, "model": model, "tokens": "all"}
        if chosen.any():
            yield score(key | {"operator": operator}, seconds[chosen], predicted[chosen])


_PredictRows = Callable[[Positions, Positions], Floats]
_Splits = list[tuple[Positions, Positions]]


def attention_scores(
    device: str,
    operator: str,
    rows: pd.DataFrame,
    design: Floats,
    regressor: Callable[[], CorrectedPhysicsRegressor],
    baseline: bool,
) -> Iterator[Score]:
    """Yield the scores of one phase of attention."""
    shape, seconds = list(ATTENTION_SHAPE), rows["seconds"].to_numpy()
    held_out = np.random.default_rng(SEED).random(len(rows)) < HELD_OUT_SHARE
    all_rows = np.ones(len(rows), dtype=bool)
    groups = [np.asarray(positions, dtype=np.int64) for positions in rows.groupby(shape).indices.values()]
    sizes = rows[["num_tokens", "context"]].to_numpy(float)
    pooled = np.hstack([rows[shape].to_numpy(float), sizes])

    def own(train: Positions, test: Positions) -> Floats:
        fitted = own_regressor(regressor().num_terms).fit(design[train], seconds[train])
        return np.asarray(fitted.predict(design[test]))

    def transfer(train: Positions, test: Positions) -> Floats:
        return np.asarray(regressor().fit(design[train], seconds[train]).predict(design[test]))

    def own_forest(train: Positions, test: Positions) -> Floats:
        return forest(sizes[train], seconds[train], sizes[test])

    def pooled_forest(train: Positions, test: Positions) -> Floats:
        return forest(pooled[train], seconds[train], pooled[test])

    all_positions = np.arange(len(rows))
    within = [(positions[~held_out[positions]], positions[held_out[positions]]) for positions in groups]
    across = [(np.setdiff1d(all_positions, positions), positions) for positions in groups] if len(groups) > 1 else []
    parts: list[tuple[str, str, _PredictRows, _Splits, Bools]] = [
        ("configurations", "corrected physics", own, within, held_out),
        ("model", "corrected physics", transfer, across, all_rows),
    ]
    if baseline:
        parts += [
            ("configurations", "random forest per shape", own_forest, within, held_out),
            ("model", "random forest on sizes and shape", pooled_forest, across, all_rows),
        ]
    gqa = (rows["q_heads"] > rows["kv_heads"]).to_numpy()
    for split, model, predict, splits, tested in parts:
        predicted = np.full(len(rows), np.nan)
        for train, test in splits:
            predicted[test] = predict(train, test)
        key = {"device": device, "split": split, "model": model, "tokens": "all"}
        if splits:
            yield score(key | {"operator": operator}, seconds[tested], predicted[tested])
        if splits and split == "model" and gqa.any():
            yield score(key | {"operator": f"{operator}, GQA"}, seconds[gqa], predicted[gqa])
