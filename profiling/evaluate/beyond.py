"""Errors of extrapolation: rows far beyond those that a fit has seen."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from profiling.evaluate.scores import Score, score
from profiling.fit.attention import DECODE, PREFILL, AttentionSource, Phase, attention_rows, fit_phase
from profiling.fit.designs import ATTENTION_SHAPE, MATMUL_SHAPE, by_shape, gpu_of
from profiling.fit.kernels import fit_matmul, matmul_rows
from profiling.tables import Header
from simulator.iteration_time import Attention, AttentionCases, AttentionFit, Floats, Gpu, MatMul

Predictions = Callable[[Gpu, pd.DataFrame, pd.DataFrame], Floats]
# A fit to rows up to a quarter of the largest size predicts the others.
TIMES = 4


def beyond_scores(folder: Path, attention_from: Path | None) -> Iterator[Score]:
    """Yield the score of each size that the simulator warns about.

    `operator` is its name in `Extent`.
    """
    header = Header.read(folder)
    matmuls = matmul_rows(folder)
    matmuls = matmuls[matmuls["dtype"] == "bf16"].reset_index(drop=True)
    tokens = matmuls["num_tokens"].to_numpy()
    yield from _scored(header, "batch_tokens", matmuls, tokens, _matmul_predictions)
    source = AttentionSource.of(folder, attention_from).folder
    prefill, decode = attention_rows(source, PREFILL), attention_rows(source, DECODE)
    header = Header.read(source)
    total = (prefill["num_tokens"] + prefill["context"]).to_numpy()
    yield from _scored(header, "prefill_tokens", prefill, total, _attention_predictions)
    for name, column in (("num_decodes", "batch"), ("decode_context_tokens", "context")):
        yield from _scored(header, name, decode, decode[column].to_numpy(), _attention_predictions)


def _scored(header: Header, name: str, rows: pd.DataFrame, sizes: Floats, predictions: Predictions) -> Iterator[Score]:
    beyond = sizes > sizes.max() / TIMES
    if beyond.all() or not beyond.any():
        return
    train, test = (rows[chosen].reset_index(drop=True) for chosen in (~beyond, beyond))
    key = {"device": header.device, "split": "beyond", "tokens": f"{TIMES} times", "model": "as fitted"}
    predicted = predictions(gpu_of(header), train, test)
    known = ~np.isnan(predicted)
    yield score(key | {"operator": name}, test["seconds"].to_numpy()[known], predicted[known])


def _matmul_predictions(gpu: Gpu, train: pd.DataFrame, test: pd.DataFrame) -> Floats:
    fit = fit_matmul(gpu, train)
    predicted = np.full(len(test), np.nan)
    for key, positions in by_shape(test, MATMUL_SHAPE):
        tokens = test["num_tokens"].to_numpy(float)[positions]
        predicted[positions] = fit.predict(gpu, MatMul("matmul", *key), tokens)
    return predicted


def _attention_predictions(gpu: Gpu, train: pd.DataFrame, test: pd.DataFrame) -> Floats:
    phase = _phase_of(test)
    fit: AttentionFit = fit_phase(gpu, train, train["seconds"].to_numpy(), phase, "bf16")
    predicted = np.full(len(test), np.nan)
    for key, positions in by_shape(test, ATTENTION_SHAPE):
        rows = test.loc[positions]
        tokens = np.ones(len(rows)) if phase is DECODE else rows["num_tokens"].to_numpy(float)
        seqs, context = rows["batch"].to_numpy(float), rows["context"].to_numpy(float)
        predicted[positions] = fit.predict(gpu, AttentionCases(Attention(*key), seqs, tokens, context))
    return predicted


def _phase_of(rows: pd.DataFrame) -> Phase:
    return DECODE if rows["operator"].iloc[0] == DECODE.operator else PREFILL
