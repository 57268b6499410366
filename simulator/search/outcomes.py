"""Deployments that were tried, and which of them nothing beats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.results import deployment_label
from simulator.search.space import Option

# A latency that nobody has shown is worse than any.
NEVER_S = 1e9
# Deployments of more than so many times the cost of the cheapest one are not looked at.
SLACK = 2.0


@dataclass(frozen=True)
class Candidate:
    """A deployment to try.

    Attributes:
        option: Device and layout.
        replicas: How many.
        scheduler: Name of the policy.
        token_budget: Its token budget; None: it has none.
    """

    option: Option
    replicas: int
    scheduler: str
    token_budget: int | None


@dataclass(frozen=True)
class Outcome:
    """What a candidate shows.

    Attributes:
        device: Name of the device.
        tp: Tensor-parallel degree.
        pp: Pipeline-parallel degree.
        replicas: How many.
        scheduler: Name of the policy.
        token_budget: Its token budget; None: it has none.
        num_gpus: GPUs in all.
        cost_per_hour_usd: Price of them.
        values: Seconds by objective; NEVER_S: nobody has shown it.
        met: Whether all objectives are met and the queue did not grow without end.
        warnings: What its run warned of.
    """

    device: str
    tp: int
    pp: int
    replicas: int
    scheduler: str
    token_budget: int | None
    num_gpus: int
    cost_per_hour_usd: float
    values: Mapping[str, float]
    met: bool
    warnings: Sequence[str] = ()

    @property
    def label(self) -> str:
        """What it is besides its device, in a few words."""
        return deployment_label(self.replicas, self.tp, self.pp, self.scheduler, self.token_budget)


def pareto(outcomes: Sequence[Outcome], objective: str) -> list[Outcome]:
    """Return the deployments within the SLO that no other beats in both cost and one objective, cheapest first.

    Up to SLACK times the cost of the cheapest: beyond, too little was looked at to say so.
    """
    front: list[Outcome] = []
    best_s = math.inf
    most_usd = SLACK * min((one.cost_per_hour_usd for one in outcomes if one.met), default=math.inf)
    for one in sorted(set_of(outcomes), key=lambda one: (one.cost_per_hour_usd, one.values[objective])):
        if one.met and one.cost_per_hour_usd <= most_usd and one.values[objective] < best_s:
            best_s = one.values[objective]
            front.append(one)
    return front


def set_of(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return different deployments once."""
    found: dict[tuple[Any, ...], Outcome] = {}
    for one in outcomes:
        found.setdefault((one.device, one.tp, one.pp, one.replicas, one.scheduler, one.token_budget), one)
    return list(found.values())
