"""Search space: devices and layouts, and which of them are ruled out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simulator.cluster import Deployment, token_budget_of
from simulator.results import SLO
from simulator.search.bounds import Load, fewest_replicas, ruled_out


@dataclass(frozen=True)
class Space:
    """The axes of a search.

    Attributes:
        devices: Names of devices.
        tp: Tensor-parallel degrees.
        pp: Pipeline-parallel degrees.
        schedulers: Names of policies.
        token_budgets: Token budgets besides the default of the device, for policies that have one.
        max_gpus: Maximum number of GPUs of a deployment.
    """

    devices: Sequence[str]
    tp: Sequence[int]
    pp: Sequence[int]
    schedulers: Sequence[str]
    token_budgets: Sequence[int]
    max_gpus: int


@dataclass(frozen=True)
class Option:
    """A device and a layout to search.

    Attributes:
        name: For example "a40 tp4 pp2".
        device: Name of the device.
        tp: Tensor-parallel degree.
        pp: Pipeline-parallel degree.
        fewest_replicas: Lower bound on the replicas.
        price_per_hour_usd: Price of one replica.
        token_budgets: Token budgets by policy, the default of the device first; empty if the policy has none.
    """

    name: str
    device: str
    tp: int
    pp: int
    fewest_replicas: int
    price_per_hour_usd: float
    token_budgets: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Pruned:
    """A device and a layout that are ruled out, and why."""

    name: str
    reason: str


Build = Callable[..., Deployment]


def options(space: Space, slo: SLO, load: Load, build: Build) -> tuple[list[Option], list[Pruned]]:
    """Return the layouts to search, and those ruled out.

    Shape, memory, price or a roofline may rule a layout out.

    Args:
        space: Axes of the search.
        slo: SLO of the deployments.
        load: Load to serve.
        build: Returns a deployment of one replica for a device, tp, pp and scheduler, or raises ValueError.
    """
    kept: list[Option] = []
    pruned: list[Pruned] = []
    for device, tp, pp in ((device, tp, pp) for device in space.devices for tp in space.tp for pp in space.pp):
        name = f"{device} tp{tp} pp{pp}"
        try:
            deployments = [build(device, tp, pp, scheduler) for scheduler in space.schedulers]
            deployment = _with_room(deployments)
        except ValueError as error:
            pruned.append(Pruned(name, " ".join(str(error).split())))
            continue
        price = deployment.device.price_per_hour_usd
        fewest = fewest_replicas(deployment, load)
        reason = ruled_out(deployment, slo, load)
        if price is None:
            reason = f"{device} has no price (price_per_hour_usd)"
        elif not reason and fewest * tp * pp > space.max_gpus:
            reason = f"takes {fewest * tp * pp} GPUs at the peak rates, search.max_gpus is {space.max_gpus}"
        if reason or price is None:
            pruned.append(Pruned(name, reason))
        else:
            budgets = {
                scheduler: _token_budgets(deployment, space.token_budgets)
                for scheduler, deployment in zip(space.schedulers, deployments, strict=True)
            }
            kept.append(Option(name, device, tp, pp, fewest, price * tp * pp, budgets))
    return kept, pruned


def _token_budgets(deployment: Deployment, listed: Sequence[int]) -> list[int]:
    """Return the token budgets of a deployment, its own first.

    None if its policy has no budget.
    """
    own = token_budget_of(deployment)
    return [] if own is None else [own, *(budget for budget in listed if budget != own)]


def _with_room(deployments: Sequence[Deployment]) -> Deployment:
    """Return the first deployment that fits in memory.

    Raises:
        ValueError: None fits; the error of the first one.
    """
    reasons = []
    for deployment in deployments:
        try:
            deployment.replica_specs()
        except ValueError as error:
            reasons.append(error)
            continue
        return deployment
    raise reasons[0]
