"""Fits link curves to measured collectives and messages.

A curve is time over size, for one operation and group of GPUs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import QuantileRegressor

from profiling.tables import Header, medians, read_table
from simulator.iteration_time import Floats, LinkCurve, MeasuredLinks

GROUP = ["machine", "operator", "num_gpus", "gpus_per_node"]
# Sizes up to SHORT are latency-bound; from LONG, as in prefill chunks of large models, bandwidth-bound.
SHORT, LONG = 1 << 16, 1 << 20
MIN_SIZES = 8
SEED = 0
HELD_OUT_SHARE = 0.2


class LinkCurveRegressor(BaseEstimator, RegressorMixin):  # type: ignore[misc]
    """Piecewise linear curve in log-log scale, one knot per octave.

    Protocols change with the size, so one latency and one bandwidth do not fit. Least absolute errors fit medians:
    means are far off where the network has outliers.

    Attributes:
        num_bytes_: float64[num_knots].
        seconds_: float64[num_knots].
    """

    def fit(self, num_bytes: Floats, seconds: Floats) -> Self:
        """Fit to sizes and times, float64[n] both, above 0."""
        sizes = np.log2(num_bytes)
        knots = np.arange(np.ceil(sizes.min()), np.floor(sizes.max()) + 1)
        knots = np.unique(np.clip([sizes.min(), *knots, sizes.max()], sizes.min(), sizes.max()))
        weights = _hats(sizes, knots)
        supported = weights.sum(axis=0) >= 0.5
        supported[[0, -1]] = True
        knots = knots[supported]
        weights = _hats(sizes, knots)
        lines = QuantileRegressor(quantile=0.5, alpha=0, fit_intercept=False, solver="highs")
        lines.fit(weights, np.log(seconds))
        # Times of short messages are noisy, so longer ones can appear faster; make the curve non-decreasing.
        rising = IsotonicRegression().fit(knots, lines.coef_, sample_weight=weights.sum(axis=0))
        self.num_bytes_ = 2.0**knots
        self.seconds_ = np.exp(rising.predict(knots))
        return self

    def curve(self, operator: str, num_gpus: int, gpus_per_node: int) -> LinkCurve:
        """Return the fitted curve, rounded as in files."""
        sizes, seconds = (
            [float(f"{value:.4g}") for value in values.tolist()] for values in (self.num_bytes_, self.seconds_)
        )
        return LinkCurve(operator, num_gpus, gpus_per_node, sizes, seconds)

    def predict(self, num_bytes: Floats) -> Floats:
        """Predict seconds: float64[n]."""
        return self.curve("", 1, 1).time(num_bytes)


class LatencyBandwidthRegressor(BaseEstimator, RegressorMixin):  # type: ignore[misc]
    """The baseline: median time of short messages, and bandwidth of the longest.

    Attributes:
        latency_s_: Seconds of an empty message.
        bytes_per_s_: Message bytes per second.
    """

    def fit(self, num_bytes: Floats, seconds: Floats) -> Self:
        """Fit to sizes and times, float64[n] both."""
        short = num_bytes <= max(SHORT, num_bytes.min())
        longest = num_bytes >= num_bytes.max() / 2
        self.latency_s_ = float(np.median(seconds[short]))
        beyond_s = np.maximum(seconds[longest] - self.latency_s_, 1e-9)
        self.bytes_per_s_ = float(np.median(num_bytes[longest] / beyond_s))
        return self

    def predict(self, num_bytes: Floats) -> Floats:
        """Predict seconds: float64[n]."""
        return self.latency_s_ + num_bytes / self.bytes_per_s_


def groups(folder: Path) -> Iterator[tuple[dict[str, Any], Floats, Floats]]:
    """Yield each operation and group of GPUs, with sizes and times.

    Times are medians. Groups with fewer than `MIN_SIZES` sizes are left out.
    """
    rows = medians(read_table(folder, "communication"), [*GROUP, "num_bytes"])
    for values, inside in rows.groupby(GROUP):
        if len(inside) >= MIN_SIZES:
            key = dict(zip(GROUP, values, strict=True))
            yield key, inside["num_bytes"].to_numpy(float), inside["seconds"].to_numpy()


def held_out_sizes(count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mark a random fifth of the sizes as held out: bool[count]."""
    return np.random.default_rng(SEED).random(count) < HELD_OUT_SHARE


def fit_links(folder: Path) -> list[MeasuredLinks]:
    """Fit the links of each machine in a folder of tables.

    Raises:
        ValueError: The folder has no table of collectives.
    """
    header = Header.read(folder)
    curves: dict[str, list[LinkCurve]] = {}
    for key, num_bytes, seconds in groups(folder):
        group = str(key["operator"]), int(key["num_gpus"]), int(key["gpus_per_node"])
        fitted = LinkCurveRegressor().fit(num_bytes, seconds)
        curves.setdefault(str(key["machine"]), []).append(fitted.curve(*group))
    if not curves:
        raise ValueError(f"{folder} has no communication table with at least {MIN_SIZES} sizes of an operation")
    about = {
        "device": header.device,
        "kernels": header.kernels,
        "source": header.source,
        "licence": header.licence,
        "date": header.date,
    }
    return [MeasuredLinks({"machine": machine} | about, of_machine) for machine, of_machine in curves.items()]


def constants(folder: Path) -> pd.DataFrame:
    """Return latency and bus bandwidth per operation and group.

    Defined as in configs/cluster/node.

    Returns:
        Columns of GROUP, latency_us, bandwidth_gb_per_s (of the ring for an all-reduce) and num_sizes.
    """
    rows = []
    for key, num_bytes, seconds in groups(folder):
        fitted = LatencyBandwidthRegressor().fit(num_bytes, seconds)
        count = int(key["num_gpus"])
        traffic = 2 * (count - 1) / count if key["operator"] == "all_reduce" else 1.0
        figures = {
            "latency_us": fitted.latency_s_ * 1e6,
            "bandwidth_gb_per_s": traffic * fitted.bytes_per_s_ / 1e9,
            "num_sizes": len(num_bytes),
        }
        rows.append(key | figures)
    return pd.DataFrame(rows)


def _hats(sizes: Floats, knots: Floats) -> Floats:
    """Return the weight of each knot in linear interpolation: float64[len(sizes), len(knots)]."""
    return np.column_stack([np.interp(sizes, knots, hat) for hat in np.eye(len(knots))])
