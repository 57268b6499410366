"""Search space: options, and what is ruled out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from simulator.cluster import Deployment, token_budget_of
from simulator.results import SLO
from simulator.search.bounds import Load, fewest_replicas, ruled_out


@dataclass(frozen=True)
class Option:
    """A device, layout, policy and token budget to search.

    Attributes:
        device: Name of the device.
        tp: Tensor-parallel degree.
        pp: Pipeline-parallel degree.
        scheduler: Name of the policy.
        token_budget: Token budget; None: the policy has none.
        fewest_replicas: Lower bound on the replicas.
        most_replicas: Upper bound on the replicas.
        price_per_hour_usd: Price of one replica.
        deployment: One replica.
    """

    device: str
    tp: int
    pp: int
    scheduler: str
    token_budget: int | None
    fewest_replicas: int
    most_replicas: int
    price_per_hour_usd: float
    deployment: Deployment

    @property
    def layout(self) -> tuple[str, int, int]:
        """Device and degrees of parallelism."""
        return (self.device, self.tp, self.pp)


@dataclass(frozen=True)
class Pruned:
    """What is ruled out, and why."""

    name: str
    reason: str


def options(
    bases: Mapping[str, Sequence[tuple[str, Deployment]]],
    layouts: Sequence[tuple[int, int]],
    max_gpus: int,
    slo: SLO,
    load: Load,
) -> tuple[list[Option], list[Pruned]]:
    """Return what to search, and what is ruled out.

    Shape, memory, price or a roofline may rule it out.

    Args:
        bases: Deployments of one replica by device, each behind the name of its policy.
        layouts: Tensor- and pipeline-parallel degrees.
        max_gpus: Maximum number of GPUs of a deployment.
        slo: SLO of the deployments.
        load: Load to serve.
    """
    kept: list[Option] = []
    pruned: list[Pruned] = []
    for device, (tp, pp) in product(bases, layouts):
        name = f"{device} tp{tp} pp{pp}"
        found, unfit = _fitting(bases[device], name, tp, pp)
        reason = _reason(found[0][1], max_gpus, slo, load) if found else unfit[0].reason
        pruned += [Pruned(name, reason)] if reason else unfit
        if not reason:
            kept += (_option(device, scheduler, deployment, max_gpus, load) for scheduler, deployment in found)
    return kept, pruned


def _fitting(
    bases: Sequence[tuple[str, Deployment]], layout: str, tp: int, pp: int
) -> tuple[list[tuple[str, Deployment]], list[Pruned]]:
    """Return the deployments that fit a layout, and those that do not."""
    fitting, unfit = [], []
    for scheduler, base in bases:
        try:
            deployment = replace(base, parallel=replace(base.parallel, tp=tp, pp=pp))
            deployment.replica_specs()
            fitting.append((scheduler, deployment))
        except ValueError as error:
            name = " ".join(str(part) for part in (layout, scheduler, token_budget_of(base)) if part is not None)
            unfit.append(Pruned(name, " ".join(str(error).split())))
    return fitting, unfit


def _reason(deployment: Deployment, max_gpus: int, slo: SLO, load: Load) -> str:
    """Return why no number of replicas can do; empty if one may."""
    if deployment.device.price_per_hour_usd is None:
        return f"{deployment.device.name} has no price (price_per_hour_usd)"
    fewest = fewest_replicas(deployment, load)
    if fewest > _most_replicas(deployment, max_gpus):
        num_gpus = fewest * deployment.parallel.num_gpus
        return f"takes {num_gpus} GPUs at the peak rates, search.max_gpus is {max_gpus}"
    return ruled_out(deployment, slo, load)


def _option(device: str, scheduler: str, deployment: Deployment, max_gpus: int, load: Load) -> Option:
    parallel, price = deployment.parallel, deployment.device.price_per_hour_usd
    assert price is not None
    return Option(
        device=device,
        tp=parallel.tp,
        pp=parallel.pp,
        scheduler=scheduler,
        token_budget=token_budget_of(deployment),
        fewest_replicas=fewest_replicas(deployment, load),
        most_replicas=_most_replicas(deployment, max_gpus),
        price_per_hour_usd=price * parallel.tp * parallel.pp,
        deployment=deployment,
    )


def _most_replicas(deployment: Deployment, max_gpus: int) -> int:
    """Return how many replicas the GPUs and the machines have room for."""
    most = max_gpus // deployment.parallel.num_gpus
    if deployment.num_nodes is not None:
        while deployment.layout.nodes_for(most) > deployment.num_nodes:
            most -= 1
    return most
