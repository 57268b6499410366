"""Fitted regressions as plain numbers: evaluated here with NumPy alone, fitted in `profiling`.

They are written to and read from JSON, so a file of them holds numbers and executes nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


MOST_DEPTH, MOST_FEATURES = 64, 64  # more than any fit has


@dataclass(frozen=True)
class Trees:
    """Boosted regression trees; their sum is the prediction.

    Nodes of all trees are numbered together. A row goes left where its feature is at most the threshold;
    a leaf is its own child on both sides.

    Attributes:
        baseline: Prediction before any tree.
        roots: int64[num_trees], first node of each tree.
        feature: int64[num_nodes], column that a node looks at.
        threshold: float64[num_nodes].
        left: int64[num_nodes].
        right: int64[num_nodes].
        value: float64[num_nodes], of leaves; 0 for others.
        depth: Most steps from a root to a leaf.
    """

    baseline: float
    roots: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    value: Floats
    depth: int

    def predict(self, features: Floats) -> Floats:
        """Evaluate: float64[n, num_features] -> float64[n]."""
        num_rows, num_features = features.shape
        values = features.ravel()
        first = np.repeat(np.arange(num_rows) * num_features, len(self.roots))
        node = np.tile(self.roots, num_rows)
        children = np.column_stack([self.right, self.left]).ravel()
        for _ in range(self.depth):
            goes_left = values.take(first + self.feature.take(node)) <= self.threshold.take(node)
            node = children.take(2 * node + goes_left)
        return np.asarray(self.baseline + self.value.take(node).reshape(num_rows, -1).sum(axis=1))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers; children are counted from their parent, and a leaf says its value alone."""
        leaf = self.left == np.arange(len(self.left))
        number = np.where(leaf, self.value, self.threshold)
        return {
            "baseline": self.baseline,
            "roots": self.roots.tolist(),
            "feature": np.where(leaf, -1, self.feature).tolist(),
            "number": [float(f"{one:.6g}") for one in number],
            "left": (self.left - np.arange(len(self.left))).tolist(),
            "right": (self.right - np.arange(len(self.right))).tolist(),
            "depth": self.depth,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Trees":
        """Read what `to_json` returned."""
        feature = np.array(plain["feature"], dtype=np.int64)
        number = np.array(plain["number"], dtype=np.float64)
        own = np.arange(len(feature))
        leaf = feature < 0
        roots = np.array(plain["roots"], dtype=np.int64)
        left, right = (own + np.array(plain[side], dtype=np.int64) for side in ("left", "right"))
        baseline, depth = float(plain["baseline"]), plain["depth"]
        nodes = np.concatenate([roots, left, right])
        if len(nodes) and not 0 <= nodes.min() <= nodes.max() < len(own):
            raise ValueError("trees have nodes that are not there")
        if not isinstance(depth, int) or not 0 <= depth <= MOST_DEPTH or feature.max(initial=0) >= MOST_FEATURES:
            raise ValueError("trees are deeper, or look at more features, than any that are fitted")
        if not np.isfinite([baseline, *number]).all():
            raise ValueError("trees hold numbers that are not finite")
        return cls(
            baseline=baseline,
            roots=roots,
            feature=np.where(leaf, 0, feature),
            threshold=np.where(leaf, 0.0, number),
            left=left,
            right=right,
            value=np.where(leaf, number, 0.0),
            depth=depth,
        )


@dataclass(frozen=True)
class CorrectedPhysics:
    """Physics times a learned correction: (terms @ coefficients) * exp(trees(features)).

    Physics carries the prediction beyond the measured range, where trees stay at their last value.

    Attributes:
        coefficients: float64[num_terms], at least 0.
        trees: Logarithm of the correction; None: there is none.
    """

    coefficients: Floats
    trees: Trees | None

    def predict(self, terms: Floats, features: Floats) -> Floats:
        """Seconds: float64[n, num_terms], float64[n, num_features] -> float64[n]."""
        physics = terms @ self.coefficients
        return physics if self.trees is None else physics * np.exp(self.trees.predict(features))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        trees = None if self.trees is None else self.trees.to_json()
        return {"coefficients": [float(f"{one:.6g}") for one in self.coefficients], "trees": trees}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "CorrectedPhysics":
        """Read what `to_json` returned."""
        trees = plain["trees"]
        coefficients = np.array(plain["coefficients"], dtype=np.float64)
        if coefficients.ndim != 1 or not np.isfinite(coefficients).all() or (coefficients < 0).any():
            raise ValueError("coefficients must be finite numbers of at least 0")
        if not coefficients.any():
            raise ValueError("one of the coefficients must be above 0")
        return cls(coefficients, None if trees is None else Trees.from_json(trees))


@dataclass(frozen=True)
class TiledLines:
    """Straight lines over the number of tokens that break at tile edges: the stairs of a matrix product.

    Attributes:
        last: float64[num_pieces], last number of tokens of each piece, increasing; a piece begins after
            the one before it.
        at_last: float64[num_pieces], seconds there.
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
        """Seconds: float64[n] -> float64[n]; beyond the last piece, the time of its end."""
        piece = np.minimum(np.searchsorted(self.last, tokens), len(self.last) - 1)
        before = np.maximum(self.last[piece] - tokens, 0.0)
        return np.asarray(self.at_last[piece] - self.slope[piece] * before)

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {
            "last": [int(one) for one in self.last],
            "at_last": [float(f"{one:.5g}") for one in self.at_last],
            "slope": [float(f"{one:.5g}") for one in self.slope],
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "TiledLines":
        """Read what `to_json` returned."""
        last, at_last, slope = (np.array(plain[name], dtype=np.float64) for name in ("last", "at_last", "slope"))
        if not last.ndim == 1 or not len(last) == len(at_last) == len(slope) > 0:
            raise ValueError("last, at_last and slope must be lists of as many numbers")
        if not np.isfinite([last, at_last, slope]).all() or (np.diff(last, prepend=0.0) <= 0).any():
            raise ValueError("last must increase, and last, at_last and slope be finite numbers")
        if (at_last <= 0).any():
            raise ValueError("at_last must be above 0")
        return cls(last, at_last, slope)
