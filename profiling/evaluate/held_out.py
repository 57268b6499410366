"""Errors of the regressors on held-out measurements, against random forests as baseline."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from profiling.fit import kernels as fit
from profiling.fit import links
from profiling.fit.regressors import CorrectedPhysicsRegressor
from profiling.tables import Header, medians, read_table
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
        split: What was held out: tokens, model, configurations, sizes or device.
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


# --- layers ----------------------------------------------------------------------------------------------


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
            predicted[test] = fit.fit_lines(rows.iloc[train]).predict(tokens[test])
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
    regressor = {"matmul": fit.matmul_regressor, "elementwise": fit.elementwise_regressor}[family]
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


# --- attention -------------------------------------------------------------------------------------------


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
    shape, seconds = list(fit.ATTENTION_SHAPE), rows["seconds"].to_numpy()
    held_out = np.random.default_rng(SEED).random(len(rows)) < HELD_OUT_SHARE
    all_rows = np.ones(len(rows), dtype=bool)
    groups = [np.asarray(positions, dtype=np.int64) for positions in rows.groupby(shape).indices.values()]
    sizes = rows[["num_tokens", "context"]].to_numpy(float)
    pooled = np.hstack([rows[shape].to_numpy(float), sizes])

    def own(train: Positions, test: Positions) -> Floats:
        fitted = fit.own_attention_regressor(regressor().num_terms).fit(design[train], seconds[train])
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


def derived_attention_scores(folder: Path, source: Path) -> Iterator[Score]:
    """Yield the scores of attention derived from another device.

    All rows of this device are scored.
    """
    gpu, source_gpu = fit.gpu_of(Header.read(folder)), fit.gpu_of(Header.read(source))
    device = Header.read(folder).device
    prefill, decode = fit.attention_rows(folder)
    source_prefill, source_decode = fit.attention_rows(source)
    parts = (
        ("prefill_attention", prefill, source_prefill, fit.prefill_design, fit.prefill_regressor),
        ("decode_attention", decode, source_decode, fit.decode_design, fit.decode_regressor),
    )
    for operator, rows, source_rows, design, regressor in parts:
        seconds = source_rows["seconds"].to_numpy()
        if operator == "decode_attention":
            seconds = fit.within_bandwidth(source_gpu, source_rows)
        model = regressor().fit(design(source_gpu, source_rows), seconds).model_
        model = fit.physics_only(model) if operator == "decode_attention" else model
        terms, features = np.split(design(gpu, rows), [len(model.coefficients)], axis=1)
        key = {"device": device, "split": "device", "tokens": "all", "model": f"derived from {source.name}"}
        yield score(key | {"operator": operator}, rows["seconds"].to_numpy(), model.predict(terms, features))


# --- messages between GPUs -------------------------------------------------------------------------------


def message_scores(folder: Path, baseline: bool) -> Iterator[Score]:
    """Yield the scores of collectives and messages on held-out sizes.

    Each machine and group of GPUs is scored separately.
    """
    device = Header.read(folder).device
    for group, num_bytes, seconds in links.groups(folder):
        held_out = links.held_out_sizes(len(num_bytes))
        long = num_bytes >= links.LONG
        label = f"{group['operator']}, {group['machine']}, {group['num_gpus']} GPUs, {group['gpus_per_node']} a machine"
        regressors = [("curve", links.LinkCurveRegressor())]
        if baseline:
            regressors.append(("latency and bandwidth", links.LatencyBandwidthRegressor()))
        for model, regressor in regressors:
            predicted = regressor.fit(num_bytes[~held_out], seconds[~held_out]).predict(num_bytes)
            for name, chosen in (("from 1 MiB", long), ("below 1 MiB", ~long)):
                tested = held_out & chosen
                if tested.any():
                    key = {"device": device, "operator": label, "split": "sizes", "tokens": name, "model": model}
                    yield score(key, seconds[tested], predicted[tested])


# --- a device --------------------------------------------------------------------------------------------


def device_scores(folder: Path, attention_from: Path | None = None, baseline: bool = True) -> Iterator[Score]:
    """Yield the scores of every fit to the tables of a device.

    Args:
        folder: Tables of the device.
        attention_from: As in `fit.fit_device`.
        baseline: Whether to score the random forests too.
    """
    header = Header.read(folder)
    gpu, device = fit.gpu_of(header), header.device
    yield from message_scores(folder, baseline)
    for family, shape, layer_design in (
        ("matmul", fit.MATMUL_SHAPE, fit.matmul_design),
        ("elementwise", fit.ELEMENTWISE_SHAPE, fit.elementwise_design),
    ):
        keys = list(dict.fromkeys([*ROW, *shape, "num_tokens"]))
        rows = medians(read_table(folder, family), keys)
        yield from layer_scores(device, family, rows, list(shape), layer_design(gpu, rows), baseline)
    if fit.is_derived(folder, attention_from):
        assert attention_from is not None
        yield from derived_attention_scores(folder, attention_from)
        return
    prefill, decode = fit.attention_rows(folder)
    # Leave out rows faster than the HBM allows: the fit sees a bound there, not the measurement.
    plausible = fit.within_bandwidth(gpu, decode) == decode["seconds"].to_numpy()
    decode = decode[plausible].reset_index(drop=True)
    for operator, rows, design, regressor in (
        ("prefill_attention", prefill, fit.prefill_design, fit.prefill_regressor),
        ("decode_attention", decode, fit.decode_design, fit.decode_regressor),
    ):
        yield from attention_scores(device, operator, rows, design(gpu, rows), regressor, baseline)
