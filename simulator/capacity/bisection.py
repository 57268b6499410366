"""Bisection for the highest rate that meets the SLO.

The evaluation of Sarathi-Serve measures capacity this way.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from traces.shared.value_checks import each, integer, number
from traces.shared.warnings import Warning

HIGHEST_QPS = 1e6
FINEST_QPS = 1e-6


@dataclass(frozen=True)
class Trial:
    """A simulation at one rate.

    Attributes:
        qps: Requested rate, requests per second.
        missed: Missed objectives, worst first; empty: the SLO is met.
        values: Seconds, or the share of goodput, by objective; None: nothing to measure.
        goodput: Share of the requests that each meet every bound; None: no request, or no bound on a request.
        goodput_qps: Such requests per second; None: likewise, or the run took no time.
        num_finished: Number of finished requests.
        arrivals_per_s: Measured arrival rate, requests per second; None: all at once, or none.
        overloaded: Whether requests arrived faster than they were served.
        is_burst: Whether requests arrived for less time than two of them take.
        warnings: Warnings of the run.
    """

    qps: float
    missed: Sequence[str] = ()
    values: Mapping[str, float | None] = field(default_factory=dict)
    goodput: float | None = None
    goodput_qps: float | None = None
    num_finished: int = 0
    arrivals_per_s: float | None = None
    overloaded: bool = False
    is_burst: bool = False
    warnings: Sequence[Warning] = ()


@dataclass(frozen=True)
class Capacity:
    """Result of a search.

    Attributes:
        qps: Highest rate that met the SLO; 0: no rate did.
        bracket: `qps`, and the lowest rate that missed the SLO; None: no rate missed it.
        binding: Objective that the lowest missing rate misses by most; None: no rate missed the SLO.
        trials: Trials in the order of the search.
        converged: Whether the bracket became as narrow as requested.
    """

    qps: float
    bracket: tuple[float, float | None]
    binding: str | None
    trials: Sequence[Trial]
    converged: bool

    @property
    def best(self) -> Trial | None:
        """The trial at the capacity; None: no rate met the SLO."""
        return next((trial for trial in self.trials if trial.qps == self.qps), None)


@dataclass(frozen=True)
class Bisection:
    """Parameters of the search.

    The first bracket spans 0 to twice the first rate. It moves up while its upper end meets the SLO.

    Attributes:
        start_qps: First rate.
        resolution_qps: Rates are multiples of this.
        granularity: The search stops when the bracket is narrower than this fraction of the rate.
        max_trials: Maximum number of trials.

    Source: Agrawal et al., OSDI 2024 (arXiv:2403.02310), capacity search of the artifact.
    """

    start_qps: float
    resolution_qps: float = 0.01
    granularity: float = 0.025
    max_trials: int = 20

    def __post_init__(self) -> None:
        """Check the ranges."""
        each(number, self, ("start_qps", "resolution_qps"), FINEST_QPS, HIGHEST_QPS)
        number("granularity", self.granularity, 0, 1, excluding="high")
        integer("max_trials", self.max_trials, 1)

    def rounded(self, qps: float) -> float:
        """Return the nearest multiple of `resolution_qps`."""
        digits = max(0, 9 - math.floor(math.log10(self.resolution_qps)))
        return round(round(qps / self.resolution_qps) * self.resolution_qps, digits)


def find_capacity(
    run: Callable[[float], Trial], search: Bisection, progress: Callable[[Trial], None] | None = None
) -> Capacity:
    """Search for the highest rate that meets the SLO.

    Args:
        run: Simulates the load at a rate.
        search: Parameters of the search.
        progress: Called with each trial.
    """
    trials: list[Trial] = []
    qps = max(search.rounded(search.start_qps), search.rounded(search.resolution_qps))
    low, high, missed = 0.0, 2 * qps, False
    converged = False
    while len(trials) < search.max_trials and low < qps <= HIGHEST_QPS:
        trial = run(qps)
        trials.append(trial)
        if progress is not None:
            progress(trial)
        if trial.missed:
            high, missed = qps, True
        else:
            low = qps
            if low >= high:
                high = 2 * low
        if missed and high - low < search.granularity * qps:
            converged = True
            break
        qps = search.rounded((low + high) / 2 if missed else high)
        if missed and not low < qps < high:
            converged = True
            break
    return _result(low, trials, converged)


def _result(low: float, trials: Sequence[Trial], converged: bool) -> Capacity:
    missing = [trial for trial in trials if trial.missed]
    lowest_missing = min(missing, key=lambda trial: trial.qps) if missing else None
    return Capacity(
        qps=low,
        bracket=(low, None if lowest_missing is None else lowest_missing.qps),
        binding=None if lowest_missing is None else lowest_missing.missed[0],
        trials=trials,
        converged=converged,
    )
