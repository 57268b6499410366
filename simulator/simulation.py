"""Simulation of a deployment that serves a trace."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import numpy as np

from simulator.cluster import (
    RESTART,
    Cluster,
    Deployment,
    Faults,
    FollowUps,
    collect_result,
    groups_of,
    request_table,
)
from simulator.core import AUTO, require
from simulator.invariants import CheckedReplica, ExpectedState, check_result
from simulator.log import NETWORK
from simulator.replica import Replica
from simulator.results import MetricOptions, Result, Warning, objectives_of
from simulator.routers import Router
from traces import Trace
from traces.workload import FAULTS, ROUTING

# Environment variable: any non-empty value makes every run check itself, as with check=True.
CHECK_VARIABLE = "LLM_SIMULATOR_CHECK"


def simulate(
    trace: Trace,
    deployment: Deployment | Sequence[Deployment],
    *,
    router: Router | None = None,
    seed: int = 0,
    faults: Faults | None = None,
    time_limit_s: float | None = None,
    metrics: MetricOptions | None = None,
    log_members: bool = False,
    log_stages: bool = False,
    check: bool = False,
    core: str = AUTO,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Simulate a deployment that serves a trace.

    Args:
        trace: Requests with arrival times.
        deployment: Deployment that serves the requests, or the groups of a heterogeneous cluster.
        router: Routing policy; None: round robin.
        seed: Seed of routing and faults.
        faults: Faults to inject; None: none.
        time_limit_s: Time after which no iteration starts and no request arrives, seconds; None: no limit.
        metrics: Warm-up and TBT sampling of the metrics; None: the defaults.
        log_members: Log the members of each batch (`Result.batches`); costs time per member.
        log_stages: Log when each pipeline stage computes each batch (`ReplicaResult.stage_spans`).
        check: Check in every iteration that no token, KV block or request is lost and that times are in order, and
            check the metrics against a slow computation. Up to 15 times slower. LLM_SIMULATOR_CHECK=1 in the
            environment does the same.
        core: Core that runs the simulation, with the same result: "python" or "compiled"; "auto": the one in use. A
            process has one core, see `simulator.core`.
        progress: Called from time to time with the number of requests that have ended.

    Raises:
        InvariantError: A check failed: the simulator or a policy has a bug.
        ValueError: The trace has no arrival times, the deployment does not fit its machines, or a fault names a
            replica that does not exist; or the process has another core.
    """
    require(core)
    if trace.arrival_s is None:
        raise ValueError("the trace has no arrival times; assign some with an arrival process of traces.arrivals")
    is_follow_up = np.isnan(trace.arrival_s)
    if is_follow_up.all():
        raise ValueError("no request of the trace has an arrival time: each one waits for another request to end")
    if time_limit_s is not None and np.nanmin(trace.arrival_s) > time_limit_s:
        first_s = float(np.nanmin(trace.arrival_s))
        raise ValueError(f"time_limit_s={time_limit_s:g}: no request arrives by then, the first at {first_s:,.4g} s")
    objectives_of(trace.clients)  # so that an error comes before the run, not after it
    groups = groups_of(deployment)
    requests = request_table(trace, groups)
    checks = check or bool(os.environ.get(CHECK_VARIABLE))
    expected = ExpectedState(requests.known_tokens, requests.total_tokens)
    cluster = Cluster(
        requests,
        [spec for number, group in enumerate(groups) for spec in group.replica_specs(number)],
        router,
        sessions=None if trace.session is None else trace.session.tolist(),
        follow_ups=FollowUps(trace) if is_follow_up.any() else None,
        max_concurrency=trace.max_concurrency,
        random=np.random.default_rng([seed, ROUTING]),
        faults=faults,
        fault_seed=[seed, FAULTS],
        time_limit_s=math.inf if time_limit_s is None else time_limit_s,
        log_members=log_members,
        log_stages=log_stages,
        replica_class=partial(CheckedReplica, expected=expected) if checks else Replica,
        progress=progress,
    )
    cluster.run()
    notes = []
    if trace.session is None and getattr(router, "needs_sessions", False):
        text = f"{type(router).__name__} routes by session, but the trace has no sessions"
        notes.append(Warning("no_sessions", text))
    for group in groups:
        if group.engine.async_scheduling and not group.scheduler.limits.lookahead:
            name = type(group.scheduler).__name__
            text = f"{name} schedules synchronously, but the host times of the engine are asynchronous ones"
            notes.append(Warning("synchronous_scheduler", text))
    if faults is not None and NETWORK in faults.kinds and all(group.parallel.num_gpus == 1 for group in groups):
        text = "a slower network changes nothing: replicas of one GPU send no messages"
        notes.append(Warning("no_network", text))
    result = collect_result(trace, cluster, metrics or MetricOptions(), notes)
    if checks:
        replicas = [cast("CheckedReplica", run.replica) for run in cluster.runs]
        check_result(result, replicas, restarts=faults is not None and faults.on_failure == RESTART)
    return result
