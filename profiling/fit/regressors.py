"""Regressors of kernel time in scikit-learn style.

Fitted models are plain numbers. `predict` evaluates the plain model, so a fit agrees with the file that it is written
to.
"""

from typing import Any

import numpy as np
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor

from profiling.fit.piecewise_lines import cut, fit_line
from simulator.iteration_time import CorrectedPhysics, Floats, TiledLines, Trees

# A break must reduce the error by about six times the squared noise of repeated measurements (1.3 %).
BREAK_PENALTY = 1e-3
# Tile sizes of kernels, tokens, roundest first.
TILE_GRAINS = (256, 128, 64, 32, 16, 8, 4, 2, 1)


class CorrectedPhysicsRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Physical terms with a learned correction.

    The fit is non-negative least squares on the terms, times boosted trees on the log of the residual ratio. Relative
    errors are fitted. X has `num_terms` columns of terms, then features.

    Attributes:
        model_: The fitted `CorrectedPhysics`.
    """

    def __init__(
        self,
        num_terms: int,
        max_iter: int = 400,
        learning_rate: float = 0.05,
        max_leaf_nodes: int = 31,
        min_samples_leaf: int = 20,
        max_features: float = 0.3,
        loss: str = "absolute_error",
        seed: int = 0,
    ) -> None:
        self.num_terms = num_terms
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.loss = loss
        self.seed = seed

    def fit(self, X: Floats, y: Floats) -> "CorrectedPhysicsRegressor":  # noqa: N803  # scikit-learn's names
        """Fit to X: float64[n, num_terms + num_features] and y: float64[n], seconds."""
        terms, features = X[:, : self.num_terms], X[:, self.num_terms :]
        scale = np.maximum(terms.max(axis=0), np.finfo(float).tiny)
        weights = nnls(terms / scale / y[:, None], np.ones(len(y)))[0] / scale
        trees = None
        if self.max_iter and features.shape[1]:
            boosted = HistGradientBoostingRegressor(
                loss=self.loss,
                max_iter=self.max_iter,
                learning_rate=self.learning_rate,
                max_leaf_nodes=self.max_leaf_nodes,
                min_samples_leaf=self.min_samples_leaf,
                max_features=self.max_features,
                early_stopping=False,
                random_state=self.seed,
            )
            trees = plain_trees(boosted.fit(features, np.log(y / (terms @ weights))))
        self.model_ = CorrectedPhysics(weights, trees)
        return self

    def predict(self, X: Floats) -> Floats:  # noqa: N803
        """Predict seconds: float64[n]."""
        return self.model_.predict(X[:, : self.num_terms], X[:, self.num_terms :])


def plain_trees(boosted: Any) -> Trees:
    """Return the trees of a fitted HistGradientBoostingRegressor without categories as plain arrays."""
    predictors = [predictor for (predictor,) in boosted._predictors]
    sizes = [len(predictor.nodes) for predictor in predictors]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    nodes = np.concatenate([predictor.nodes for predictor in predictors])
    offset = np.repeat(roots, sizes)
    own = np.arange(len(nodes))
    leaf = nodes["is_leaf"].astype(bool)
    return Trees(
        baseline=float(np.ravel(boosted._baseline_prediction)[0]),
        roots=roots,
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        left=np.where(leaf, own, nodes["left"].astype(np.int64) + offset),
        right=np.where(leaf, own, nodes["right"].astype(np.int64) + offset),
        value=np.where(leaf, nodes["value"], 0.0),
    )


def tile_edge(after: float, before: float) -> float:
    """Return the likely tile edge between two numbers of tokens.

    It is the roundest number in [after, before).
    """
    for grain in TILE_GRAINS:
        edge = float(np.ceil(before / grain) - 1) * grain
        if edge >= after:
            return edge
    return after


class TiledLinesRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Straight lines by least relative squares, with breaks at tile edges.

    Breaks are made where they reduce the error enough, at the tile edge between two measured numbers of tokens. X has
    one column, the number of tokens.

    Attributes:
        model_: The fitted `TiledLines`.
    """

    def __init__(self, penalty: float = BREAK_PENALTY) -> None:
        self.penalty = penalty

    def fit(self, X: Floats, y: Floats) -> "TiledLinesRegressor":  # noqa: N803
        """Fit to X: float64[n, 1] and y: float64[n], seconds."""
        tokens, group = np.unique(X[:, 0], return_inverse=True)
        seconds = np.array([np.median(y[group == index]) for index in range(len(tokens))])
        last, at_last, slope = [], [], []
        for begin, end in cut(tokens, seconds, self.penalty):
            start, rise = fit_line(tokens[begin:end], seconds[begin:end])
            last.append(tile_edge(tokens[end - 1], tokens[end]) if end < len(tokens) else tokens[-1])
            at_last.append(start + rise * last[-1])
            slope.append(rise)
        self.model_ = TiledLines(np.array(last), np.array(at_last), np.array(slope))
        return self

    def predict(self, X: Floats) -> Floats:  # noqa: N803
        """Predict seconds: float64[n]."""
        return self.model_.predict(X[:, 0])
