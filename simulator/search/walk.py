"""Walk through deployments in the order of their cost."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simulator.search.outcomes import SLACK, Candidate, Outcome, shortfall
from simulator.search.space import Option

# A deployment that misses by at most this ratio may do so by accident: alone, it does not rule out fewer replicas.
NEAR = 1.1

# Returns the outcome of the first candidate; the walk is likely to ask for the others next.
Evaluate = Callable[[Sequence[Candidate]], Outcome]


@dataclass(frozen=True)
class Walk:
    """What a walk has simulated.

    Attributes:
        outcomes: Simulated deployments, in the order of the walk.
        open_usd: Lowest cost per hour of the deployments that are left to simulate; inf: none is left.
    """

    outcomes: Sequence[Outcome]
    open_usd: float


def walk(options: Sequence[Option], bounds: Mapping[str, float], evaluate: Evaluate, trials: int) -> Walk:
    """Find the fewest replicas within the SLO, by option.

    Deployments above SLACK times the cheapest cost are left out. Each step takes the option whose untried deployments
    begin at the lowest cost: once a deployment within the SLO costs no more than these, it is the cheapest. Assumes
    that fewer replicas miss the SLO too if a deployment misses it by more than NEAR or its queue grows, or if two
    deployments with neighbouring numbers of replicas miss it.

    Args:
        options: What to search.
        bounds: Seconds by objective.
        evaluate: Simulates a candidate.
        trials: Maximum number of simulated deployments.
    """
    ranges = [_Replicas(option, bounds) for option in options]
    outcomes: list[Outcome] = []
    while True:
        usd = min((outcome.cost_per_hour_usd for outcome in outcomes if outcome.met), default=math.inf)
        untried = (one for one in ranges if one.untried and one.open_usd <= SLACK * usd)
        left = sorted(untried, key=lambda one: one.open_usd)
        if not left or len(outcomes) == trials:
            return Walk(outcomes, left[0].open_usd if left else math.inf)
        outcome = evaluate([one.next_candidate(usd) for one in left])
        left[0].record(outcome)
        outcomes.append(outcome)


class _Replicas:
    """Numbers of replicas that may be the fewest within the SLO.

    Attributes:
        untried: Those, ascending.
    """

    def __init__(self, option: Option, bounds: Mapping[str, float]) -> None:
        self.untried = list(range(option.fewest_replicas, option.most_replicas + 1))
        self._option = option
        self._bounds = bounds
        self._missed: list[int] = []
        self._is_met = False

    @property
    def open_usd(self) -> float:
        """Lowest cost per hour of the untried deployments."""
        return self._usd(self.untried[0])

    def next_candidate(self, cheapest_usd: float) -> Candidate:
        """Return the candidate whose outcome says most of the others.

        With a deployment within the SLO, bisect below it. Else the most replicas that cost no more than the cheapest
        deployment of any option, which rules out all fewer if it misses. Without any, double the replicas.
        """
        if self._is_met:
            return Candidate(self._option, self.untried[len(self.untried) // 2])
        if cheapest_usd == math.inf:
            most_usd = self._usd(2 * max(self._missed, default=0))
        else:
            most_usd = cheapest_usd if self.open_usd <= cheapest_usd else SLACK * cheapest_usd
        return Candidate(self._option, self.untried[max(0, bisect_right(self.untried, most_usd, key=self._usd) - 1)])

    def record(self, outcome: Outcome) -> None:
        """Leave out what the outcome rules out."""
        tried = outcome.replicas
        if outcome.met:
            self._is_met = True
            self.untried = [replicas for replicas in self.untried if replicas < tried]
            return
        is_alone = tried - 1 not in self._missed and tried + 1 not in self._missed
        if is_alone and shortfall(outcome, self._bounds) <= NEAR:
            self.untried.remove(tried)
        else:
            self.untried = [replicas for replicas in self.untried if replicas > tried]
        self._missed.append(tried)

    def _usd(self, replicas: int) -> float:
        return replicas * self._option.price_per_hour_usd
