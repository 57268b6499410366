"""Exact latency statistics, computed from arrays after the run."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.results.tokens import Bools, Floats, TokenLog, token_gaps

# Latencies of a request in seconds, and their names.
LATENCIES = {
    "ttft_s": "time to first token",
    "tbt_s": "time between tokens",
    "tpot_s": "time per output token",
    "e2e_s": "end to end",
    "scheduling_delay_s": "scheduling delay",
}
PERCENTILES = (50, 90, 95, 99)
# Columns that latencies come from.
_TIMES = ("arrival_s", "first_scheduled_s", "first_token_s", "completed_s", "output_tokens", "ignored")
STATISTICS = ("mean", *(f"p{percentile}" for percentile in PERCENTILES), "max")


def rank(percentile: Fraction, total: int) -> int:
    """Return the nearest rank of a percentile: samples at or below it.

    It is exact, unlike `0.99 * total`.
    """
    return math.ceil(percentile * total / 100)


class Distribution:
    """Weighted sample of times.

    A quantile is the smallest value whose cumulative weight reaches that share of the total.
    """

    def __init__(self, values: Floats, weights: NDArray[np.integer[Any]] | None = None) -> None:
        """Sort the sample.

        Args:
            values: float64[n].
            weights: int[n], how often each value occurs; None: once.
        """
        order = np.argsort(values)
        if weights is None:
            self._values, self._cumulative = values[order], np.arange(1, len(values) + 1)
            self._total = float(self._values.sum())
            return
        order = order[weights[order] > 0]
        self._values, weights = values[order], weights[order]
        del order  # as large as the values
        # Not by BLAS, whose rounding depends on its number of threads.
        self._total = float((self._values * weights).sum())
        self._cumulative = np.cumsum(weights)

    def statistic(self, name: str) -> float | None:
        """Return one statistic; None for an empty sample.

        Args:
            name: "mean", "max" or a percentile such as "p50" or "p99.9".

        Raises:
            ValueError: Unknown statistic.
        """
        percentile = None if name in ("mean", "max") else percentile_of(name)
        if len(self._values) == 0:
            return None
        count = int(self._cumulative[-1])
        if name == "mean":
            return self._total / count
        index = -1 if percentile is None else np.searchsorted(self._cumulative, rank(percentile, count))
        return float(self._values[index])

    def cdf(self) -> tuple[Floats, Floats]:
        """Return float64[n] sorted values and float64[n] cumulative shares of the sample."""
        total = self._cumulative[-1] if len(self._cumulative) else 1
        return self._values, self._cumulative / total

    def summary(self) -> dict[str, float | None]:
        """Return mean, p50, p90, p95, p99 and max.

        Each is None for an empty sample.
        """
        return {name: self.statistic(name) for name in STATISTICS}


def percentile_of(name: str) -> Fraction:
    """Parse a percentile such as "p99" or "p99.9".

    Raises:
        ValueError: Not a percentile above 0 and at most 100.
    """
    digits = name.removeprefix("p")
    if name.startswith("p") and digits.replace(".", "", 1).isdecimal() and 0 < Fraction(digits) <= 100:
        return Fraction(digits)
    raise ValueError(f"{name!r} is not mean, max or a percentile such as p50, p99 or p99.9")


def distributions(
    requests: Mapping[str, NDArray[Any]],
    logs: Sequence[TokenLog],
    counted: Bools,
    *,
    end_s: float,
    have_moves: bool,
    zero_first_gap: bool = False,
) -> dict[str, Distribution]:
    """Return the latencies of the counted requests.

    Args:
        requests: Arrays by request: arrival_s, first_scheduled_s, first_token_s and completed_s (float64,
            NaN: has not happened), output_tokens, ignored.
        logs: Tokens, by replica.
        counted: bool[num_requests].
        end_s: When the simulation ended.
        have_moves: Whether a request may have been at several replicas.
        zero_first_gap: Count a gap of 0 s for each first token.

    Returns:
        ttft_s, tbt_s, tpot_s, e2e_s and scheduling_delay_s. TPOT leaves out requests of one token. The
        scheduling delay of a request that was never scheduled is end_s - arrival.
    """
    gaps, weights = token_gaps(logs, counted, have_moves)
    if zero_first_gap:
        gaps = np.append(gaps, 0.0)
        weights = np.append(weights, np.count_nonzero(~np.isnan(requests["first_token_s"][counted])))
    tbt = Distribution(gaps, weights)
    del gaps, weights
    table = {name: requests[name][counted] for name in _TIMES}
    arrival_s, first_token_s, completed_s = table["arrival_s"], table["first_token_s"], table["completed_s"]
    started = ~np.isnan(first_token_s)
    several = ~np.isnan(completed_s) & (table["output_tokens"] > 1)
    decode_s = completed_s[several] - first_token_s[several]
    scheduled_s = np.where(np.isnan(table["first_scheduled_s"]), end_s, table["first_scheduled_s"])
    delays = (scheduled_s - arrival_s)[(table["ignored"] == 0) | ~np.isnan(table["first_scheduled_s"])]
    return {
        "ttft_s": Distribution((first_token_s - arrival_s)[started]),
        "tbt_s": tbt,
        "tpot_s": Distribution(decode_s / (table["output_tokens"][several] - 1)),
        "e2e_s": Distribution((completed_s - arrival_s)[~np.isnan(completed_s)]),
        "scheduling_delay_s": Distribution(delays),
    }
