"""Figures of replicas and of the cluster: KV memory, stages, cost."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.results.replica import ReplicaResult

STAGE_SHARES = ("busy", "no_work", "down", "waiting_for_upstream", "waiting_for_downstream", "uneven_micro_batches")


def kv_use(replicas: Sequence[ReplicaResult]) -> dict[str, float | int | None]:
    """Return the mean and maximum share of KV blocks in use.

    The mean is over all iterations, weighted by their time.
    """
    total_s = _per_iteration(replicas, _seconds).sum()
    blocks_s = _per_iteration(replicas, lambda replica: _used(replica) * _seconds(replica)).sum()
    return {
        "mean": float(blocks_s / total_s) if total_s > 0 else None,
        "max": max(float(_used(replica).max(initial=0.0)) for replica in replicas) if total_s > 0 else None,
        "num_blocks": sum(replica.num_blocks for replica in replicas),
    }


def _used(replica: ReplicaResult) -> NDArray[np.float64]:
    used: NDArray[np.float64] = (replica.num_blocks - replica.logged.free_blocks) / replica.num_blocks
    return used


def _seconds(replica: ReplicaResult) -> NDArray[np.float64]:
    seconds: NDArray[np.float64] = replica.logged.end_s - replica.logged.columns["start_s"]
    return seconds


def _per_iteration(
    replicas: Sequence[ReplicaResult], figure: Callable[[ReplicaResult], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return a figure of the iterations of all replicas.

    They take much memory, so there are no copies.
    """
    ends = np.cumsum([0, *(len(replica.logged.end_s) for replica in replicas)])
    joined = np.empty(ends[-1])
    for replica, first, end in zip(replicas, ends, ends[1:], strict=False):
        joined[first:end] = figure(replica)
    return joined


def stage_shares(replicas: Sequence[ReplicaResult], span_s: float) -> dict[str, list[float] | None]:
    """Return how each pipeline stage spent its time.

    Shares are averaged over the replicas that have the stage.

    Args:
        replicas: All replicas of the run.
        span_s: From the first arrival to the end of the run.

    Returns:
        For each of STAGE_SHARES, which add up to 1, a share for each stage; None: the run took no time.
    """
    if span_s <= 0:
        return dict.fromkeys(STAGE_SHARES)
    by_replica = [_shares_of(replica, span_s) for replica in replicas]
    by_stage = [[shares for shares in column if shares is not None] for column in zip_longest(*by_replica)]
    return {name: [float(np.mean([shares[name] for shares in stage])) for stage in by_stage] for name in STAGE_SHARES}


def replica_totals(replica: ReplicaResult, span_s: float) -> dict[str, Any]:
    """Return the figures of one replica that need only its log."""
    return {
        "group": replica.placement.group,
        "device": replica.placement.device,
        "node": replica.placement.node or None,
        "tp": replica.placement.tp,
        "pp": replica.placement.pp,
        "num_gpus": replica.placement.num_gpus,
        "cost_per_hour_usd": replica.placement.price_per_hour_usd,
        "num_iterations": len(replica.logged.end_s),
        "num_preemptions": replica.num_preemptions,
        "kv_use": kv_use([replica]),
        "stages": _shares_of(replica, span_s) if span_s > 0 else None,
    }


def cluster_totals(
    replicas: Sequence[ReplicaResult], output_tokens_per_s: float | None
) -> dict[str, float | int | None]:
    """Return the size and cost of the cluster.

    Costs are None if a price is unknown, the cost per token also if no token was emitted.
    """
    prices = [replica.placement.price_per_hour_usd for replica in replicas]
    per_hour = None if None in prices else float(sum(price for price in prices if price is not None))
    per_million = None
    if per_hour is not None and output_tokens_per_s:
        per_million = per_hour / 3600 / output_tokens_per_s * 1e6
    return {
        "num_replicas": len(replicas),
        "num_gpus": sum(replica.placement.num_gpus for replica in replicas),
        "cost_per_hour_usd": per_hour,
        "cost_per_million_output_tokens_usd": per_million,
    }


def _shares_of(replica: ReplicaResult, span_s: float) -> list[dict[str, float]]:
    """Return the STAGE_SHARES of each stage of a replica."""
    shares = []
    for stage in replica.stages:
        known = {name.removesuffix("_s"): seconds / span_s for name, seconds in asdict(stage).items()}
        shares.append({"no_work": max(0.0, 1 - sum(known.values())), **known})
    return shares
