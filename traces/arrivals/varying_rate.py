"""Arrival processes whose rate changes: bursts of a Markov chain, and a rate as a function of time."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces.arrivals.basic import gamma_gaps, require_rate
from traces.shared.value_checks import is_finite, number
from traces.trace import Trace

Floats = NDArray[np.float64]
_STAYS_AT_A_TIME, _MOST_STAYS = 1024, 10**8


@dataclass(frozen=True)
class MarkovModulated:
    """A Poisson process whose rate jumps between states, a Markov-modulated Poisson process.

    Each stay in a state takes an exponentially distributed time; the next state is any of the others. It begins in
    the state and for the time of a process that has run for ever.

    Attributes:
        qps: Requests per second in the long mean.
        rates: Rates of the states, in proportion to each other.
        dwell_s: Mean stay in each state, seconds.
    """

    qps: float
    rates: Sequence[float] = (1.0, 8.0)
    dwell_s: Sequence[float] = (50.0, 10.0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_rate(self.qps)
        for name, least in (("rates", 0.0), ("dwell_s", 1e-3)):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or isinstance(values, str) or not 2 <= len(values) <= 1000:
                raise ValueError(f"{name} must be a list of 2 to 1000 numbers, got {values!r}")
            for value in values:
                number(name, value, least, 1e9)
        if len(self.rates) != len(self.dwell_s):
            raise ValueError(
                f"rates and dwell_s must be of equal length, got {len(self.rates)} and {len(self.dwell_s)}"
            )
        if not max(self.rates) > 0:
            raise ValueError("rates must hold one above 0")

    @property
    def rates_qps(self) -> Floats:
        """Requests per second in each state: float64[num_states]."""
        rates, dwell_s = np.array(self.rates, dtype=np.float64), np.array(self.dwell_s, dtype=np.float64)
        # Each state is as often the next one as any other, so that time is shared by the length of the stays.
        return np.asarray(self.qps * rates / (rates @ dwell_s / dwell_s.sum()))

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times."""
        of_states, of_requests = rng.spawn(2)
        needed = np.cumsum(of_requests.exponential(1.0, len(trace)))
        edges_s, expected = self._path(float(needed[-1]), of_states)
        return trace.arriving(np.interp(needed, expected, edges_s))

    def _path(self, requests: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw stays until so many requests are expected.

        Returns:
            float64[num_stays + 1] ends of the stays and float64[num_stays + 1] requests expected by then, both from 0.

        Raises:
            ValueError: That would be too many stays.
        """
        rates, dwell_s = self.rates_qps, np.array(self.dwell_s, dtype=np.float64)
        if requests / self.qps / dwell_s.mean() > _MOST_STAYS:
            raise ValueError(
                f"dwell_s: stays of {dwell_s.mean():g} s are too short for a trace of {requests / self.qps:g} s"
            )
        state = int(rng.choice(len(rates), p=dwell_s / dwell_s.sum()))
        stays: list[Floats] = []
        counts: list[Floats] = []
        total = 0.0
        while total <= requests:
            # Each step leads to any of the other states.
            steps = rng.integers(1, len(rates), _STAYS_AT_A_TIME)
            states = (state + np.concatenate([[0], np.cumsum(steps)])) % len(rates)
            stays.append(rng.exponential(dwell_s[states[:-1]]))
            counts.append(stays[-1] * rates[states[:-1]])
            state, total = int(states[-1]), total + float(counts[-1].sum())
        zero = np.zeros(1)
        return np.cumsum(np.concatenate([zero, *stays])), np.cumsum(np.concatenate([zero, *counts]))


@dataclass(frozen=True)
class VaryingRate:
    """A rate as a function of time, repeated: between the points that are given it is on straight lines.

    Attributes:
        points: [seconds, rate] pairs, from second 0 on; the last time is the period. Rates are requests per second
            or, with `qps`, in proportion to each other.
        path: A CSV file with columns time_s and qps, in place of `points`.
        qps: Requests per second in the mean over a period; None: the rates are meant as they are.
        cv: Coefficient of variation of the gaps at a constant rate, gamma-distributed; 1: a Poisson process.
    """

    points: Sequence[Sequence[float]] | None = None
    path: str | None = None
    qps: float | None = None
    cv: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if (self.points is None) == (self.path is None):
            raise ValueError("points or path must be given, one of them")
        if self.qps is not None:
            require_rate(self.qps)
        number("cv", self.cv, 0.01, 100)
        if self.points is not None:
            _require_points("points", self.points)

    def assign(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace with arrival times.

        Raises:
            ValueError: The file cannot be read or holds no such points.
        """
        times_s, rates = np.array(self._points(), dtype=np.float64).T
        steps_s = np.diff(times_s)
        counts = np.concatenate([[0.0], np.cumsum(steps_s * (rates[1:] + rates[:-1]) / 2)])
        if self.qps is not None:
            scale = self.qps * times_s[-1] / counts[-1]
            rates, counts = rates * scale, counts * scale
        needed = np.cumsum(gamma_gaps(self.cv, len(trace), rng))
        periods, left = np.divmod(needed, counts[-1])
        piece = np.minimum(np.searchsorted(counts, left, side="right") - 1, len(steps_s) - 1)
        return trace.arriving(
            periods * times_s[-1]
            + times_s[piece]
            + _reach_s(left - counts[piece], rates[piece], rates[piece + 1], steps_s[piece])
        )

    def _points(self) -> Sequence[Sequence[float]]:
        if self.path is None:
            assert self.points is not None
            return self.points
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"arrival.path: cannot read {self.path}: {getattr(error, 'strerror', None) or error}"
            ) from error
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
    good = good and all(isinstance(one, Sequence) and len(one) == 2 and all(map(is_finite, one)) for one in points)
    if not good:
        raise ValueError(f"{name} must be at least 2 pairs [seconds, rate] of finite numbers")
    times_s, rates = np.array(points, dtype=np.float64).T
    if times_s[0] != 0 or np.any(np.diff(times_s) <= 0):
        raise ValueError(f"{name} must have rising times from 0 on")
    if rates.min() < 0 or not np.any(rates > 0):
        raise ValueError(f"{name} must have rates of at least 0 and one above 0")


def _reach_s(count: Floats, first: Floats, last: Floats, span_s: Floats) -> Floats:
    """Return when so many requests are expected while a rate goes from `first` to `last` within `span_s`."""
    slope = (last - first) / span_s
    # The root of first t + slope t^2 / 2 = count in the form that also holds for a slope of 0.
    root = np.sqrt(np.maximum(first**2 + 2 * slope * count, 0.0))
    below = first + root
    return np.asarray(np.minimum(np.where(below > 0, 2 * count / np.where(below > 0, below, 1.0), 0.0), span_s))
