"""Routes that do not depend on the simulation."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from simulator.cluster.replica_spec import ReplicaSpec
from simulator.cluster.routing import Routing
from simulator.routers import ReplicaLoad, Router
from traces import Trace


class _DependsOnLoadError(Exception):
    """Raised when a router reads the load of a replica."""


def fixed_routes(
    trace: Trace, router: Router, specs: Sequence[ReplicaSpec], random: np.random.Generator
) -> NDArray[np.int64] | None:
    """Return the replica of each request, if known beforehand.

    The router is asked about all requests beforehand. If it reads a load, its choices depend on the simulation.

    Args:
        trace: Requests; all of them have arrival times.
        router: Routing policy.
        specs: Specification of each replica.
        random: Random generator of the router.

    Returns:
        int64[num_requests]; None: the choices depend on the load.

    Raises:
        ValueError: The router chooses a replica that does not exist.
    """
    was_read = False

    def refuse() -> None:
        nonlocal was_read
        was_read = True
        raise _DependsOnLoadError

    loads = [ReplicaLoad(None, spec.placement.device, spec.placement.num_gpus, catch_up=refuse) for spec in specs]
    # A copy: if it has a state in spite of the protocol, the simulation starts with a fresh one.
    routing = Routing(deepcopy(router), loads, random, None if trace.session is None else trace.session.tolist())
    routes = np.empty(len(trace), dtype=np.int64)
    try:
        for request, prompt_tokens in enumerate(trace.prompt_tokens.tolist()):
            routes[request] = replica = routing.choose(request, prompt_tokens)
            loads[replica].add(prompt_tokens)
    except Exception:
        if not was_read:
            raise
    return None if was_read else routes
