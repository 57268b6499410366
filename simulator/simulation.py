"""Simulation of a deployment that serves a trace."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np

from simulator.cluster import (
    RESTART,
    Cluster,
    Deployment,
    Faults,
    FollowUps,
    Part,
    PartSimulation,
    collect_result,
    fixed_routes,
    groups_of,
    request_ids,
    request_table,
    specs_of,
    split,
)
from simulator.core import AUTO, require
from simulator.invariants import CheckedReplica, ExpectedState, check_result
from simulator.log import NETWORK
from simulator.replica import Replica
from simulator.results import MetricOptions, PartOfResult, Result, Warning, merged, objectives_of
from simulator.routers import RoundRobin, Router
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
    workers: int = 1,
    backend: str = "loky",
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
        workers: Processes that simulate the replicas, with the same result, if no replica depends on another: the
            router reads no load, no request waits for another, and there are no faults, concurrency limit and checks.
        backend: Backend of joblib for the workers: "loky" (this machine) or "ray".
        progress: Called from time to time with the number of requests that have ended.

    Raises:
        InvariantError: A check failed: the simulator or a policy has a bug.
        ValueError: The trace has no arrival times, the deployment does not fit its machines, or a fault names a
            replica that does not exist; the process has another core; or the backend is not installed.
    """
    require(core)
    _check_arrivals(trace, time_limit_s)
    objectives_of(trace.clients)  # so that an error comes before the run, not after it
    router, metrics = router or RoundRobin(), metrics or MetricOptions()
    groups = groups_of(deployment)
    checks = check or bool(os.environ.get(CHECK_VARIABLE))
    limit_s = math.inf if time_limit_s is None else time_limit_s
    notes = [*_notes(trace, groups, router, faults)]
    specs = specs_of(groups)
    coupling = "check=true looks at the whole cluster" if checks else _coupling(trace, len(specs), faults)
    if not coupling:
        routes = fixed_routes(trace, router, specs, np.random.default_rng([seed, ROUTING]))
        if routes is not None:
            simulation = PartSimulation(
                groups, partial(collect_result, metrics=metrics), limit_s, log_members, log_stages
            )
            parts = split(routes, len(specs))
            results = simulation.run(_for_parts(trace), parts, workers, backend, progress)
            return _merged(trace, parts, results, notes)
        coupling = f"{type(router).__name__} looks at the load of the replicas"
    if workers > 1:
        notes.append(Warning("one_process", f"cluster.workers={workers} has no effect: {coupling}"))
    requests = request_table(trace, groups)
    expected = ExpectedState(requests.known_tokens, requests.total_tokens)
    cluster = Cluster(
        requests,
        specs,
        router,
        sessions=None if trace.session is None else trace.session.tolist(),
        follow_ups=FollowUps(trace) if _has_follow_ups(trace) else None,
        max_concurrency=trace.max_concurrency,
        random=np.random.default_rng([seed, ROUTING]),
        faults=faults,
        fault_seed=[seed, FAULTS],
        time_limit_s=limit_s,
        log_members=log_members,
        log_stages=log_stages,
        replica_class=partial(CheckedReplica, expected=expected) if checks else Replica,
        progress=progress,
    )
    cluster.run()
    result = collect_result(trace, cluster, metrics, notes)
    if checks:
        replicas = [cast("CheckedReplica", run.replica) for run in cluster.runs]
        check_result(result, replicas, restarts=faults is not None and faults.on_failure == RESTART)
    return result


def _check_arrivals(trace: Trace, time_limit_s: float | None) -> None:
    """Check that requests arrive."""
    if trace.arrival_s is None:
        raise ValueError("the trace has no arrival times; assign some with an arrival process of traces.arrivals")
    if np.isnan(trace.arrival_s).all():
        raise ValueError("no request of the trace has an arrival time: each one waits for another request to end")
    first_s = float(np.nanmin(trace.arrival_s))
    if time_limit_s is not None and first_s > time_limit_s:
        raise ValueError(f"time_limit_s={time_limit_s:g}: no request arrives by then, the first at {first_s:,.4g} s")


def _for_parts(trace: Trace) -> Trace:
    """Return a trace whose parts keep the ids of requests."""
    return replace(trace, request_id=request_ids(trace), notes=())


def _merged(trace: Trace, parts: Sequence[Part], results: Iterator[Result], notes: Sequence[Warning]) -> Result:
    """Return the result of a run from those of its parts."""
    found = (PartOfResult(part.rows, part.replicas, result) for part, result in zip(parts, results, strict=True))
    result = merged(found, len(trace), request_ids(trace))
    return replace(result, notes=[*notes, *trace.notes], has_prefixes=trace.has_prefixes)


def _has_follow_ups(trace: Trace) -> bool:
    return trace.arrival_s is not None and bool(np.isnan(trace.arrival_s).any())


def _coupling(trace: Trace, num_replicas: int, faults: Faults | None) -> str:
    """Return why the replicas depend on each other.

    Empty: only the router can make them depend.
    """
    if num_replicas == 1:
        return "there is one replica"
    if _has_follow_ups(trace):
        return "requests wait for others to end"
    if trace.max_concurrency is not None:
        return "the number of requests in flight is limited"
    return "faults move requests to other replicas" if faults else ""


def _notes(trace: Trace, groups: Sequence[Deployment], router: Router, faults: Faults | None) -> Iterator[Warning]:
    """Yield warnings about options that have no effect."""
    if trace.session is None and getattr(router, "needs_sessions", False):
        text = f"{type(router).__name__} routes by session, but the trace has no sessions"
        yield Warning("no_sessions", text)
    for group in groups:
        if group.engine.async_scheduling and not group.scheduler.limits.lookahead:
            name = type(group.scheduler).__name__
            text = f"{name} schedules synchronously, but the host times of the engine are asynchronous ones"
            yield Warning("synchronous_scheduler", text)
    if faults is not None and NETWORK in faults.kinds and all(group.parallel.num_gpus == 1 for group in groups):
        yield Warning("no_network", "a slower network changes nothing: replicas of one GPU send no messages")
