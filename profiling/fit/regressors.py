"""The regressions of iteration time as scikit-learn estimators; what they learn is plain numbers.

`predict` evaluates those plain numbers, so a fit and the file that it is written to agree.
"""

from typing import Any

import numpy as np
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor

from profiling.fit.piecewise_lines import cut, line
from simulator.iteration_time import CorrectedPhysics, Floats, TiledLines, Trees

# A break must explain about six times the squared noise of repeated measurements (1.3 %).
BREAK_PENALTY = 1e-3
# Tiles of tokens that kernels work on, roundest first.
TILE_GRAINS = (256, 128, 64, 32, 16, 8, 4, 2, 1)


class CorrectedPhysicsRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Non-negative physics, weighed for relative error, times boosted trees on the logarithm of what is left.

    X holds `num_terms` columns of terms and then features.

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
        """Learn from X: float64[n, num_terms + num_features] and y: float64[n], seconds."""
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
    """Turn the trees of a fitted HistGradientBoostingRegressor without categories into plain arrays."""
    predictors = [one for (one,) in boosted._predictors]
    sizes = [len(one.nodes) for one in predictors]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    nodes = np.concatenate([one.nodes for one in predictors])
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
        depth=int(nodes["depth"].max()),
    )


def tile_edge(after: float, before: float) -> float:
    """Where kernels change between two numbers of tokens: the roundest one in [after, before)."""
    for grain in TILE_GRAINS:
        edge = float(np.ceil(before / grain) - 1) * grain
        if edge >= after:
            return edge
    return after


class TiledLinesRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Straight lines by least relative squares, with breaks where they pay for themselves.

    X has one column, the number of tokens. A break between two measured numbers of tokens is put at the
    tile edge between them.

    Attributes:
        model_: The fitted `TiledLines`.
    """

    def __init__(self, penalty: float = BREAK_PENALTY) -> None:
        self.penalty = penalty

    def fit(self, X: Floats, y: Floats) -> "TiledLinesRegressor":  # noqa: N803
        """Learn from X: float64[n, 1] and y: float64[n], seconds."""
        tokens, place = np.unique(X[:, 0], return_inverse=True)
        seconds = np.array([np.median(y[place == one]) for one in range(len(tokens))])
        last, at_last, slope = [], [], []
        for begin, end in cut(tokens, seconds, self.penalty):
            start, rise = line(tokens[begin:end], seconds[begin:end])
            last.append(tile_edge(tokens[end - 1], tokens[end]) if end < len(tokens) else tokens[-1])
            at_last.append(start + rise * last[-1])
            slope.append(rise)
        self.model_ = TiledLines(np.array(last), np.array(at_last), np.array(slope))
        return self

    def predict(self, X: Floats) -> Floats:  # noqa: N803
        """Predict seconds: float64[n]."""
        return self.model_.predict(X[:, 0])
