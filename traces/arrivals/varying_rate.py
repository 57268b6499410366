"""Arrival processes with a varying rate: Markov-modulated, or a function of time."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.arrivals.basic import gamma_gaps, require_limit, require_rate
from traces.shared.json_file import reading
from traces.shared.value_checks import is_finite, number, sequence
from traces.trace import Trace

Floats = NDArray[np.float64]
_STAYS_PER_DRAW, _MOST_STAYS = 1024, 10**8


@dataclass(frozen=True)
class MarkovModulated:
    """A Markov-modulated Poisson process: the rate jumps between states.

    The time in a state is exponentially distributed; every other state is equally likely to be next. The process
    starts in its stationary distribution.

    Attributes:
        qps: Long-run mean rate, requests per second.
        rates: Relative rates of the states.
        dwell_s: Mean time in each state per visit, seconds.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    qps: float
    rates: Sequence[float] = (1.0, 8.0)
    dwell_s: Sequence[float] = (50.0, 10.0)
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_rate(self.qps)
        require_limit(self.max_concurrency)
        for name, least in (("rates", 0.0), ("dwell_s", 1e-3)):
            values, allowed = getattr(self, name), "a list of 2 to 1000 numbers"
            sequence(name, values, allowed, number, least, 1e9, least=2, most=1000)
        if len(self.rates) != len(self.dwell_s):
            raise ValueError(
                f"rates and dwell_s must be of equal length, got {len(self.rates)} and {len(self.dwell_s)}"
            )
        if not max(self.rates) > 0:
            raise ValueError("rates must contain a rate above 0")

    @property
    def rates_qps(self) -> Floats:
        """Rate in each state, requests per second: float64[num_states]."""
        rates, dwell_s = np.array(self.rates, dtype=np.float64), np.array(self.dwell_s, dtype=np.float64)
        # All states are visited equally often, so that a state's share of the time is proportional to its dwell time.
        return np.asarray(self.qps * rates / (rates @ dwell_s / dwell_s.sum()))

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        states_rng, requests_rng = rng.spawn(2)
        targets = np.cumsum(requests_rng.exponential(1.0, len(trace)))
        ends_s, expected = self._draw_path(float(targets[-1]), states_rng)
        return trace.arriving(np.interp(targets, expected, ends_s), max_concurrency=self.max_concurrency)

    def _draw_path(self, num_requests: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw stays in states until `num_requests` are expected.

        Returns:
            float64[num_stays + 1] ends of the stays, seconds, and float64[num_stays + 1] requests expected by then;
            both start with 0.

        Raises:
            ValueError: That takes too many stays.
        """
        rates, dwell_s = self.rates_qps, np.array(self.dwell_s, dtype=np.float64)
        if num_requests / self.qps / dwell_s.mean() > _MOST_STAYS:
            raise ValueError(
                f"dwell_s: stays of {dwell_s.mean():g} s are too short for a trace of {num_requests / self.qps:g} s"
            )
        state = int(rng.choice(len(rates), p=dwell_s / dwell_s.sum()))
        stays: list[Floats] = []
        counts: list[Floats] = []
        total = 0.0
        while total <= num_requests:
            # A step of 1 to num_states - 1 leads to any of the other states.
            steps = rng.integers(1, len(rates), _STAYS_PER_DRAW)
            states = (state + np.concatenate([[0], np.cumsum(steps)])) % len(rates)
            stays.append(rng.exponential(dwell_s[states[:-1]]))
            counts.append(stays[-1] * rates[states[:-1]])
            state, total = int(states[-1]), total + float(counts[-1].sum())
        zero = np.zeros(1)
        return np.cumsum(np.concatenate([zero, *stays])), np.cumsum(np.concatenate([zero, *counts]))


@dataclass(frozen=True)
class VaryingRate:
    """A periodic, piecewise linear rate.

    Attributes:
        points: [seconds, rate] pairs that start at second 0; the last time is the period. Rates are requests per
            second or, if `qps` is given, relative.
        path: A CSV file with columns time_s and qps, instead of `points`.
        qps: Mean rate over a period, requests per second; None: the rates of the points.
        cv: Coefficient of variation of the gamma-distributed gaps in time rescaled to a constant rate; 1: a Poisson
            process.
        max_concurrency: Most requests in flight: others are sent when one ends; None: no limit.
    """

    points: Sequence[Sequence[float]] | None = None
    path: str | None = None
    qps: float | None = None
    cv: float = 1.0
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if (self.points is None) == (self.path is None):
            raise ValueError("points or path must be given, not both")
        if self.qps is not None:
            require_rate(self.qps)
        number("cv", self.cv, 0.01, 100)
        require_limit(self.max_concurrency)
        if self.points is not None:
            _require_points("points", self.points)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times.

        Raises:
            ValueError: The file cannot be read, or its points are invalid.
        """
        times_s, rates = np.array(self._load_points(), dtype=np.float64).T
        steps_s = np.diff(times_s)
        counts = np.concatenate([[0.0], np.cumsum(steps_s * (rates[1:] + rates[:-1]) / 2)])
        if self.qps is not None:
            scale = self.qps * times_s[-1] / counts[-1]
            rates, counts = rates * scale, counts * scale
        targets = np.cumsum(gamma_gaps(self.cv, len(trace), rng))
        periods, rest = np.divmod(targets, counts[-1])
        piece = np.minimum(np.searchsorted(counts, rest, side="right") - 1, len(steps_s) - 1)
        within_s = _time_to_count_s(rest - counts[piece], rates[piece], rates[piece + 1], steps_s[piece])
        arrival_s = periods * times_s[-1] + times_s[piece] + within_s
        return trace.arriving(arrival_s, max_concurrency=self.max_concurrency)

    def _load_points(self) -> Sequence[Sequence[float]]:
        if self.path is None:
            assert self.points is not None
            return self.points
        with (
            reading(self.path, "a CSV file", "arrival.path: "),
            open(self.path, encoding="utf-8-sig", newline="") as file,
        ):
            rows = list(csv.DictReader(file))
        points = []
        for line, row in enumerate(rows, 2):
            try:
                points.append((float(row["time_s"]), float(row["qps"])))
            except (KeyError, TypeError, ValueError):
                raise ValueError(
                    f"arrival.path: {self.path} line {line}: needs numbers in columns time_s and qps"
                ) from None
        _require_points(f"arrival.path: {self.path}", points)
        return points


def _require_points(name: str, points: Sequence[Sequence[float]]) -> None:
    good = isinstance(points, Sequence) and len(points) >= 2
    good = good and all(isinstance(pair, Sequence) and len(pair) == 2 and all(map(is_finite, pair)) for pair in points)
    if not good:
        raise ValueError(f"{name} must be at least 2 pairs [seconds, rate] of finite numbers")
    times_s, rates = np.array(points, dtype=np.float64).T
    if times_s[0] != 0 or np.any(np.diff(times_s) <= 0):
        raise ValueError(f"{name} must have increasing times that start at 0")
    if rates.min() < 0 or not np.any(rates > 0):
        raise ValueError(f"{name} must have rates of at least 0, one of them above 0")


def _time_to_count_s(count: Floats, first: Floats, last: Floats, span_s: Floats) -> Floats:
    """Return the time by which `count` requests are expected.

    The rate is linear in time. The result is in seconds from the start of the piece.

    Args:
        count: Expected requests: float64[num_requests], as the others.
        first: Rate at the start, requests per second.
        last: Rate after `span_s`, requests per second.
        span_s: Duration of the piece, seconds.
    """
    slope = (last - first) / span_s
    # Solves first t + slope t^2 / 2 = count, in the form that also holds for slope = 0.
    root = np.sqrt(np.maximum(first**2 + 2 * slope * count, 0.0))
    denominator = first + root
    positive = denominator > 0
    return np.asarray(np.minimum(np.where(positive, 2 * count / np.where(positive, denominator, 1.0), 0.0), span_s))
