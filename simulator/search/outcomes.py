"""Simulated deployments and their Pareto front."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.results import GOODPUT, deployment_label
from simulator.search.space import Option

# Latency of an objective that is missed without a measurement: worse than any.
NEVER_S = 1e9
# Deployments that cost more than this multiple of the cheapest one are not simulated.
SLACK = 2.0


@dataclass(frozen=True)
class Candidate:
    """An option with a number of replicas: a deployment to simulate."""

    option: Option
    replicas: int


@dataclass(frozen=True)
class Outcome:
    """A simulated deployment.

    Attributes:
        device: Name of the device.
        tp: Tensor-parallel degree.
        pp: Pipeline-parallel degree.
        replicas: Number of replicas.
        scheduler: Name of the policy.
        token_budget: Token budget; None: the policy has none.
        max_num_seqs: Maximum running requests of a replica; None: the policy states none.
        memory_utilization: Share of the GPU memory that the engine takes.
        num_gpus: GPUs of all replicas.
        cost_per_hour_usd: Price of all GPUs.
        values: Seconds, or the share of goodput, by objective; NEVER_S: not measured.
        met: Whether all objectives are met and the queue had stopped growing when the last request arrived.
        warnings: Warnings of the run.
    """

    device: str
    tp: int
    pp: int
    replicas: int
    scheduler: str
    token_budget: int | None
    max_num_seqs: int | None
    memory_utilization: float
    num_gpus: int
    cost_per_hour_usd: float
    values: Mapping[str, float]
    met: bool
    warnings: Sequence[str] = ()

    @property
    def option(self) -> tuple[object, ...]:
        """What the deployment has besides its number of replicas."""
        return (self.device, self.tp, self.pp, self.scheduler, self.token_budget)

    @property
    def label(self) -> str:
        """Short description without the device."""
        return deployment_label(self.replicas, self.tp, self.pp, self.scheduler, self.token_budget)


def cheapest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the cheapest deployment within the SLO, or None.

    Ties go to the best in the first objective.
    """
    return min((outcome for outcome in outcomes if outcome.met), key=_cost_order, default=None)


def _cost_order(outcome: Outcome) -> tuple[float, ...]:
    return (outcome.cost_per_hour_usd, *(loss(name, value) for name, value in outcome.values.items()))


def loss(objective: str, value: float) -> float:
    """Return what a search minimises: seconds, or the share without goodput."""
    return 1 - value if objective.rpartition(".")[2] == GOODPUT and value != NEVER_S else value


def excess(objective: str, value: float, bound: float) -> float:
    """Return the ratio of value to bound; above 1: missed."""
    if objective.rpartition(".")[2] != GOODPUT:
        return value / bound
    return bound / value if 0 < value <= 1 else math.inf


def shortfall(outcome: Outcome, bounds: Mapping[str, float]) -> float:
    """Return by which ratio a deployment misses the SLO.

    At most 1: it meets the SLO. inf: its queue grows.
    """
    worst = max(excess(name, outcome.values[name], bound) for name, bound in bounds.items())
    return worst if outcome.met or worst > 1 else math.inf


def pareto(outcomes: Sequence[Outcome], objective: str) -> list[Outcome]:
    """Return the Pareto front of cost and one objective within the SLO.

    The cheapest deployment comes first. Deployments above SLACK times the lowest cost are excluded, because the search
    does not cover them.
    """
    front: list[Outcome] = []
    least = math.inf
    max_usd = SLACK * min((outcome.cost_per_hour_usd for outcome in outcomes if outcome.met), default=math.inf)
    for outcome in sorted(
        outcomes, key=lambda outcome: (outcome.cost_per_hour_usd, loss(objective, outcome.values[objective]))
    ):
        lost = loss(objective, outcome.values[objective])
        if outcome.met and outcome.cost_per_hour_usd <= max_usd and lost < least:
            least = lost
            front.append(outcome)
    return front
