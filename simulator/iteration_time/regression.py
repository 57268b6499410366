"""Fitted regressions as plain numbers.

They are fitted in `profiling` and evaluated here with NumPy alone. They are stored as JSON, so loading a file executes
no code.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_FEATURES = 64  # limit of a file, above any fit


@dataclass(frozen=True)
class Trees:
    """Gradient-boosted regression trees; the prediction is the baseline plus their sum.

    Nodes are numbered across all trees. A row goes left if its feature is at most the threshold; a leaf is its own
    child on both sides.

    Attributes:
        baseline: Prediction before any tree.
        roots: int64[num_trees], root node of each tree.
        feature: int64[num_nodes], column that a node tests.
        threshold: float64[num_nodes].
        left: int64[num_nodes].
        right: int64[num_nodes].
        value: float64[num_nodes], value of a leaf; 0 for other nodes.
    """

    baseline: float
    roots: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    value: Floats

    def predict(self, features: Floats) -> Floats:
        """Return the predictions: float64[n, num_features] -> float64[n].

        Rows between the same thresholds have the same prediction, which is computed once.
        """
        cells = [np.searchsorted(tested, column) for tested, column in zip(self._tested, features.T, strict=False)]
        _, first, inverse = np.unique(np.column_stack(cells), axis=0, return_index=True, return_inverse=True)
        values = self.value.take(self._leaves(features[first])).reshape(len(first), -1)
        return np.asarray(self.baseline + values.sum(axis=1))[inverse.ravel()]

    def _leaves(self, features: Floats) -> Ints:
        """Return the leaf of each row in each tree.

        int64[n * num_trees], row after row.
        """
        num_rows, num_features = features.shape
        values, leaf = features.ravel(), np.tile(self.roots, num_rows)
        children = np.column_stack([self.right, self.left]).ravel()
        is_inner = self.left != np.arange(len(self.left))
        walking = np.flatnonzero(is_inner.take(leaf))
        node, row = leaf[walking], walking // len(self.roots) * num_features
        while len(walking):
            goes_left = values.take(row + self.feature.take(node)) <= self.threshold.take(node)
            leaf[walking] = node = children.take(2 * node + goes_left)
            goes_on = is_inner.take(node)
            walking, node, row = walking[goes_on], node[goes_on], row[goes_on]
        return leaf

    @cached_property
    def _tested(self) -> list[Floats]:
        """Sorted thresholds of each feature."""
        is_inner = self.left != np.arange(len(self.left))
        features = range(int(self.feature.max(initial=0)) + 1)
        return [np.unique(self.threshold[is_inner & (self.feature == feature)]) for feature in features]

    def to_json(self) -> dict[str, Any]:
        """Return the trees as plain numbers.

        Children are relative to their parent and come after it; a leaf has feature -1 and its value.
        """
        is_leaf = self.left == np.arange(len(self.left))
        number = np.where(is_leaf, self.value, self.threshold)
        return {
            "baseline": self.baseline,
            "roots": self.roots.tolist(),
            "feature": np.where(is_leaf, -1, self.feature).tolist(),
            "number": [float(f"{value:.6g}") for value in number],
            "left": (self.left - np.arange(len(self.left))).tolist(),
            "right": (self.right - np.arange(len(self.right))).tolist(),
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Trees":
        """Build from what `to_json` returned."""
        feature = np.array(plain["feature"], dtype=np.int64)
        number = np.array(plain["number"], dtype=np.float64)
        node = np.arange(len(feature))
        is_leaf = feature < 0
        roots = np.array(plain["roots"], dtype=np.int64)
        left, right = (node + np.array(plain[side], dtype=np.int64) for side in ("left", "right"))
        baseline = float(plain["baseline"])
        references = np.concatenate([roots, left, right])
        if len(references) and not 0 <= references.min() <= references.max() < len(node):
            raise ValueError("trees refer to nodes that do not exist")
        if not (is_leaf | (np.minimum(left, right) > node)).all():
            raise ValueError("the children of a node must come after it")
        if feature.max(initial=0) >= MOST_FEATURES:
            raise ValueError(f"trees must have at most {MOST_FEATURES} features")
        if not np.isfinite([baseline, *number]).all():
            raise ValueError("trees must hold finite numbers")
        return cls(
            baseline=baseline,
            roots=roots,
            feature=np.where(is_leaf, 0, feature),
            threshold=np.where(is_leaf, 0.0, number),
            left=left,
            right=right,
            value=np.where(is_leaf, number, 0.0),
        )


@dataclass(frozen=True)
class CorrectedPhysics:
    """Physics terms times a learned correction: (terms @ coefficients) * exp(trees(features)).

    Beyond the measured range the trees are constant, so the physics terms extrapolate.

    Attributes:
        coefficients: float64[num_terms], at least 0.
        trees: Logarithm of the correction; None: no correction.
    """

    coefficients: Floats
    trees: Trees | None

    def predict(self, terms: Floats, features: Floats) -> Floats:
        """Return the seconds: float64[n, num_terms], float64[n, num_features] -> float64[n]."""
        physics = terms @ self.coefficients
        return physics if self.trees is None else physics * np.exp(self.trees.predict(features))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        trees = None if self.trees is None else self.trees.to_json()
        return {"coefficients": [float(f"{value:.6g}") for value in self.coefficients], "trees": trees}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "CorrectedPhysics":
        """Build from what `to_json` returned."""
        trees = plain["trees"]
        coefficients = np.array(plain["coefficients"], dtype=np.float64)
        if coefficients.ndim != 1 or not np.isfinite(coefficients).all() or (coefficients < 0).any():
            raise ValueError("coefficients must be finite numbers of at least 0")
        if not coefficients.any():
            raise ValueError("at least one coefficient must be above 0")
        return cls(coefficients, None if trees is None else Trees.from_json(trees))


@dataclass(frozen=True)
class TiledLines:
    """Piecewise linear time over tokens: the staircase of a matmul.

    The time jumps at tile edges.

    Attributes:
        last: float64[num_pieces], last number of tokens of each piece, increasing; a piece begins after the
            previous one.
        at_last: float64[num_pieces], seconds at `last`.
        slope: float64[num_pieces], seconds per token within the piece.
    """

    last: Floats
    at_last: Floats
    slope: Floats

    @property
    def most_tokens(self) -> float:
        """Largest number of tokens that was measured."""
        return float(self.last[-1])

    def predict(self, tokens: Floats) -> Floats:
        """Return the seconds: float64[n] -> float64[n]; constant beyond the last piece."""
        piece = np.minimum(np.searchsorted(self.last, tokens), len(self.last) - 1)
        before = np.maximum(self.last[piece] - tokens, 0.0)
        return np.asarray(self.at_last[piece] - self.slope[piece] * before)

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {
            "last": [int(tokens) for tokens in self.last],
            "at_last": [float(f"{seconds:.5g}") for seconds in self.at_last],
            "slope": [float(f"{slope:.5g}") for slope in self.slope],
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "TiledLines":
        """Build from what `to_json` returned."""
        last, at_last, slope = (np.array(plain[name], dtype=np.float64) for name in ("last", "at_last", "slope"))
        if not last.ndim == 1 or not len(last) == len(at_last) == len(slope) > 0:
            raise ValueError("last, at_last and slope must be lists of the same length, at least 1")
        if not np.isfinite([last, at_last, slope]).all() or (np.diff(last, prepend=0.0) <= 0).any():
            raise ValueError("last must increase from above 0, and last, at_last and slope must be finite")
        if (at_last <= 0).any():
            raise ValueError("at_last must be above 0")
        return cls(last, at_last, slope)
