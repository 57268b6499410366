"""Simulate a deployment that serves a trace."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from simulator.cluster import (
    RESTART,
    Cluster,
    Deployment,
    Faults,
    FollowUps,
    ReplicaSpec,
    collect_result,
    groups_of,
    request_table,
)
from simulator.invariants import CheckedOverlappingReplica, CheckedReplica, ExpectedState, check_result
from simulator.log import NETWORK
from simulator.replica import Replica, RequestTable
from simulator.results import MetricOptions, Result, of_clients
from simulator.routers import Router
from traces import Trace
from traces.workload import FAULTS, ROUTING

# Set to anything, it makes every run check itself, as with check=True.
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
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Serve a trace and return what happened.

    Args:
        trace: Requests with arrival times.
        deployment: What serves them; or the groups of a cluster of different replicas.
        router: Chooses the replica of each request; None: round robin.
        seed: Seed of the randomness of routing and faults.
        faults: What goes wrong; None: nothing.
        time_limit_s: No iteration starts and no request arrives after so many seconds; None: no limit.
        metrics: What the figures leave out and count; None: the defaults.
        log_members: Keep the members of each batch (`Result.batches`); costs time for each of them.
        log_stages: Keep when each pipeline stage computed each batch (`ReplicaResult.stage_spans`).
        check: Check in every iteration that no token, KV block or request is lost and that times are in order, and
            the figures against a slow computation of them; up to 4 times slower. CHECK_VARIABLE in the environment
            does so too.
        progress: Called with the number of requests that have ended, now and then.

    Raises:
        InvariantError: What was checked does not hold: a fault of the simulator, or of a policy of your own.
        ValueError: The trace has no arrival times, the deployment does not fit its machines, or a fault is of a
            replica that does not exist.
    """
    if trace.arrival_s is None:
        raise ValueError("the trace has no arrival times; give it some with one of traces.arrivals.basic")
    waits = np.isnan(trace.arrival_s)
    if waits.all():
        raise ValueError("no request of the trace has an arrival time: all wait for the end of others")
    of_clients(trace.clients)  # before the run rather than behind it
    groups = groups_of(deployment)
    requests = request_table(trace, groups)
    checks = check or bool(os.environ.get(CHECK_VARIABLE))
    cluster = Cluster(
        requests,
        [spec for number, group in enumerate(groups) for spec in group.replica_specs(number)],
        router,
        sessions=None if trace.session is None else trace.session.tolist(),
        follow_ups=FollowUps(trace) if waits.any() else None,
        random=np.random.default_rng([seed, ROUTING]),
        faults=faults,
        fault_seed=[seed, FAULTS],
        time_limit_s=math.inf if time_limit_s is None else time_limit_s,
        log_members=log_members,
        log_stages=log_stages,
        new_replica=_checked(requests) if checks else None,
        progress=progress,
    )
    cluster.run()
    notes = []
    if trace.session is None and getattr(router, "needs_sessions", False):
        notes.append(f"{type(router).__name__} routes by session, and the trace has no sessions")
    if faults is not None and NETWORK in faults.kinds and all(one.parallel.num_gpus == 1 for one in groups):
        notes.append("a slower network changes nothing: replicas of one GPU send no messages")
    result = collect_result(trace, cluster, metrics or MetricOptions(), notes)
    if checks:
        checked = (CheckedReplica, CheckedOverlappingReplica)
        books = [run.replica for run in cluster.runs if isinstance(run.replica, checked)]
        check_result(result, books, restarts=faults is not None and faults.on_failure == RESTART)
    return result


def _checked(requests: RequestTable) -> Callable[[ReplicaSpec], Callable[..., Replica]]:
    """Return what builds replicas that check each decision against a state of their own, kept in another way."""
    books = ExpectedState(requests.known_tokens, requests.total_tokens)

    def checked(spec: ReplicaSpec) -> Callable[..., Replica]:
        kind = CheckedOverlappingReplica if spec.overlaps else CheckedReplica
        return partial(kind, books=books, max_tokens=spec.max_batch_tokens, max_num_seqs=spec.max_num_seqs)

    return checked
