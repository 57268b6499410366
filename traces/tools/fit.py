"""Generators fitted to a trace: lengths, their correlation, and arrivals."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.arrivals import Constant, Gamma, Poisson, Renewal, Sessions, VaryingRate, Weibull
from traces.base import Arrivals, Source
from traces.generators import Conversations, Synthetic, Table
from traces.shared.warnings import Warning
from traces.tools.describe import arrival_figures, length_figures, rank_correlation, time_step_s, window_counts
from traces.trace import Trace

Floats = NDArray[np.float64]
# Quantile levels of a table: every percent, and finer in the tail, where values are far apart.
_LEVELS = (
    *(number / 100 for number in range(99)),
    *(number / 1000 for number in range(990, 999)),
    *(number / 10000 for number in range(9990, 10001)),
)
# Largest distance of a gamma, Weibull or exponential distribution from the measured gaps; beyond it they get a table.
_MOST_DISTANCE = 0.05
# Gaps with a smaller coefficient of variation count as equal.
_CONSTANT_CV = 0.01
# A varying rate is fitted with at most this many pieces, each of at least this many requests.
_MOST_PIECES, _PIECE_REQUESTS = 96, 100
# The rate varies if the counts in windows of a tenth of the span vary this many times more than independent gaps of
# the measured CV would make them. At a constant rate, one trace in 2,300 reaches 3 times (10 windows: a chi-squared
# variable of 9 degrees of freedom above 30).
_VARIES, _SLOW_WINDOWS = 3.0, 10
SEED = 0


@dataclass(frozen=True)
class Fit:
    """Generators fitted to a trace.

    Attributes:
        source: Generator of the requests.
        arrivals: Arrival process; None: no arrivals could be fitted.
        notes: What the generators leave out, a sentence each.
    """

    source: Source
    arrivals: Arrivals | None
    notes: tuple[str, ...] = ()

    def sample(self, seed: int = SEED) -> Trace:
        """Generate a trace."""
        requests_rng, arrivals_rng = np.random.default_rng(seed).spawn(2)
        trace = self.source.load(requests_rng)
        return trace if self.arrivals is None else self.arrivals.assign(trace, arrivals_rng)


def fit(trace: Trace) -> Fit:
    """Fit generators to a trace.

    Sessions of several turns give `Conversations`, other traces independent requests.

    Raises:
        ValueError: The trace has fewer than 2 requests.
    """
    if len(trace) < 2:
        raise ValueError("needs at least 2 requests")
    notes = []
    if trace.client is not None:
        notes.append("client classes are merged")
    if trace.priority is not None:
        notes.append("priorities are left out")
    if trace.prefix is not None:
        notes.append("prefix blocks are left out")
    _, turn = trace.turns()
    if trace.session is not None and turn.any():
        arrivals, session_notes = _fit_sessions(trace, turn)
        return Fit(_fit_conversations(trace, turn), arrivals, (*notes, *session_notes))
    source = Synthetic(
        prompt=_table(trace.prompt_tokens),
        output=_table(trace.output_tokens),
        max_total_tokens=int((trace.prompt_tokens + trace.output_tokens).max()),
        num_requests=len(trace),
        rank_correlation=round(float(np.clip(rank_correlation(trace) or 0.0, -0.999, 0.999)), 3),
    )
    known_s = trace.arrival_s
    if known_s is not None and (np.isnan(known_s).any() or known_s[0] == known_s[-1]):
        notes.append("arrivals are left out: requests wait for others, or all arrive at once")
        known_s = None
    process: Arrivals | None = None
    if known_s is not None:
        try:
            process = fit_arrivals(known_s)
        except ValueError as error:
            notes.append(f"arrivals are left out, as no arrival process can be fitted: {error}")
    return Fit(source, process, tuple(notes))


def without_steps(trace: Trace) -> Trace:
    """Spread requests at random over the steps of recorded arrival times.

    Returns a trace without such steps unchanged.
    """
    if trace.arrival_s is None or np.isnan(trace.arrival_s).any():
        return trace
    step_s = time_step_s(trace.arrival_s)
    if step_s is None:
        return trace
    offset_s = np.random.default_rng(SEED).random(len(trace)) * step_s
    text = f"arrival times are recorded in steps of {step_s:g} s; requests were spread at random over these steps"
    note = Warning("times_spread", text)
    return replace(trace, arrival_s=np.sort(trace.arrival_s + offset_s), notes=(*trace.notes, note))


def fit_arrivals(arrival_s: Floats) -> Arrivals:
    """Fit an arrival process: a varying rate, or independent inter-arrival times.

    Independent inter-arrival times are constant, exponential, gamma or Weibull (the last two with the measured CV),
    whichever is nearest to the measured distribution by the Kolmogorov-Smirnov distance. If none is near, they follow
    the measured distribution itself.

    Args:
        arrival_s: float64[n], not decreasing, not all the same.

    Raises:
        ValueError: The rate is outside the range of the arrival processes.
    """
    figures = arrival_figures(arrival_s)
    qps, cv = figures["qps"], figures["gap_cv"]
    slow = window_counts(arrival_s, figures["span_s"] / _SLOW_WINDOWS * (1 - 1e-12))
    if slow.var() / slow.mean() > _VARIES * max(cv**2, 1.0):
        return _fit_varying_rate(arrival_s, figures["span_s"])
    if cv < _CONSTANT_CV:
        return Constant(qps=_short(qps))
    cv = min(cv, 100.0)
    gaps = np.diff(arrival_s)
    candidates: list[Arrivals] = [
        Poisson(qps=_short(qps)),
        Gamma(qps=_short(qps), cv=_short(cv)),
        Weibull(qps=_short(qps), cv=_short(cv)),
    ]
    distances = [distance(gaps, np.diff(_draw_times(process, len(gaps) + 1))) for process in candidates]
    if min(distances) <= _MOST_DISTANCE:
        return candidates[int(np.argmin(distances))]
    quantiles = np.quantile(gaps, _LEVELS, method="inverted_cdf") * qps
    return Renewal(qps=_short(qps), gaps=[_short(gap) for gap in quantiles], levels=_LEVELS)


def _fit_varying_rate(arrival_s: Floats, span_s: float) -> VaryingRate:
    """Fit a piecewise linear rate and the CV of the gaps.

    The gaps are those in time rescaled to a constant rate.
    """
    num_pieces = int(np.clip(len(arrival_s) // _PIECE_REQUESTS, 2, _MOST_PIECES))
    since_s = arrival_s - arrival_s[0]
    counts, edges = np.histogram(since_s, bins=num_pieces, range=(0, span_s))
    rates = counts / np.diff(edges)
    # The rate of a piece applies to its middle; before the first middle and after the last it is constant.
    times = [0.0, *((edges[1:] + edges[:-1]) / 2).tolist(), span_s]
    values = [rates[0], *rates.tolist(), rates[-1]]
    points = [[_short(time_s), _short(rate)] for time_s, rate in zip(times, values, strict=True)]
    expected = np.interp(since_s, edges, np.concatenate([[0], np.cumsum(counts)]))
    gaps = np.diff(expected)
    cv = gaps.std() / gaps.mean()
    return VaryingRate(points=points, cv=_short(min(max(float(cv), 0.01), 100.0)))


def _fit_sessions(trace: Trace, turn: NDArray[np.int64]) -> tuple[Sessions | None, tuple[str, ...]]:
    """Fit session starts and think times; also return notes."""
    if trace.arrival_s is None:
        return None, ()
    session, _ = trace.turns()
    starts = np.sort(trace.arrival_s[turn == 0])
    if np.isnan(starts).any() or starts[0] == starts[-1]:
        return None, ("arrivals are left out: sessions wait for a user, or all start at once",)
    figures = arrival_figures(starts)
    notes: tuple[str, ...] = ()
    think_s = None if trace.think_s is None else trace.think_s[turn > 0]
    if think_s is None or np.isnan(think_s).any():
        order = np.lexsort((turn, session))
        think_s = np.diff(trace.arrival_s[order])[(turn[order] > 0)[1:]]
        think_s = think_s[~np.isnan(think_s)]
        notes = ("think times were not recorded: the times between turns are used, which include the answers",)
    qps = figures["qps"] * len(trace) / (int(session.max()) + 1)
    mean_s = float(think_s.mean()) if len(think_s) else 0.0
    cv = float(think_s.std() / mean_s) if mean_s else 0.0
    gap_cv = min(max(figures["gap_cv"], 0.01), 100.0)
    return Sessions(qps=_short(qps), cv=_short(gap_cv), think_s=_short(mean_s), think_cv=_short(min(cv, 100.0))), notes


def _fit_conversations(trace: Trace, turn: NDArray[np.int64]) -> Conversations:
    """Fit turns, questions and answers.

    The whole prompt of a first turn counts as its question.
    """
    session, _ = trace.turns()
    order = np.lexsort((turn, session))
    prompt, output, first = trace.prompt_tokens[order], trace.output_tokens[order], turn[order] == 0
    before = np.concatenate([[0], (prompt + output)[:-1]])
    question = np.maximum(prompt - np.where(first, 0, before), 1)
    return Conversations(
        turns=_table(np.bincount(session)),
        question=_table(question[~first]),
        opening=_table(question[first]),
        answer=_table(output),
        max_total_tokens=int((prompt + output).max()),
        num_requests=len(trace),
    )


def match(trace: Trace, fitted: Fit, seed: int = SEED) -> list[dict[str, Any]]:
    """Compare a trace with a generated trace of equal length.

    Returns:
        Rows of `name`, `trace`, `generated` and `error`. The error is relative, except for a correlation (the
        difference) and for two distributions (their Kolmogorov-Smirnov distance, 0 to 1, without the other values).
    """
    generated = fitted.sample(seed)
    rows = []
    for name in ("prompt_tokens", "output_tokens"):
        ours, theirs = getattr(trace, name), getattr(generated, name)
        our_figures, their_figures = length_figures(ours), length_figures(theirs)
        rows += [
            _row(f"{name} {statistic}", our_figures[statistic], their_figures[statistic])
            for statistic in ("mean", "p50", "p90", "p99")
        ]
        rows.append(_distance_row(f"{name} distribution", distance(ours, theirs)))
    ours_r, theirs_r = rank_correlation(trace), rank_correlation(generated)
    if ours_r is not None and theirs_r is not None:
        rows.append({"name": "rank correlation", "trace": ours_r, "generated": theirs_r, "error": theirs_r - ours_r})
    if fitted.arrivals is not None:
        rows += _arrival_rows(trace, generated)
    return rows


def _arrival_rows(trace: Trace, generated: Trace) -> list[dict[str, Any]]:
    """Compare arrivals.

    Of sessions, only first turns are compared, as later ones depend on the answers.
    """
    times = []
    for requests in (trace, generated):
        _, turn = requests.turns()
        is_first = turn == 0 if generated.think_s is not None else np.ones(len(requests), dtype=bool)
        times.append(np.asarray(requests.arrival_s)[is_first])
    ours, theirs = (arrival_figures(np.sort(arrival_s)) for arrival_s in times)
    rows = [_row("requests/s" if generated.think_s is None else "sessions/s", ours["qps"], theirs["qps"])]
    rows.append(_row("CV of gaps", ours["gap_cv"], theirs["gap_cv"]))
    for window_s, value in ours["index_of_dispersion"].items():
        if window_s in theirs["index_of_dispersion"]:
            rows.append(_row(f"dispersion in {window_s} s", value, theirs["index_of_dispersion"][window_s]))
    rows.append(_distance_row("gap distribution", distance(*(np.diff(arrival_s) for arrival_s in times))))
    return rows


def distance(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples, 0 to 1.

    `scipy.stats.ks_2samp` also computes a p-value, which fails on samples of one value.
    """
    ours, theirs = np.sort(ours), np.sort(theirs)
    values = np.concatenate([ours, theirs])
    shares = [np.searchsorted(sample, values, side="right") / len(sample) for sample in (ours, theirs)]
    return float(np.abs(shares[0] - shares[1]).max())


def _row(name: str, ours: float, theirs: float) -> dict[str, Any]:
    return {"name": name, "trace": ours, "generated": theirs, "error": theirs / ours - 1 if ours else None}


def _distance_row(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "trace": None, "generated": None, "error": value}


def _table(values: NDArray[np.int64]) -> Table:
    return Table([int(value) for value in np.quantile(values, _LEVELS, method="inverted_cdf")], _LEVELS)


def _draw_times(arrivals: Arrivals, count: int) -> Floats:
    ones = np.ones(count, dtype=np.int64)
    return np.asarray(arrivals.assign(Trace(ones, ones), np.random.default_rng(SEED)).arrival_s)


def _short(value: float) -> float:
    """Round to 5 significant digits."""
    return float(f"{value:.5g}")
