"""Simulation in parts: replicas that do not depend on each other."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from simulator.cluster.cluster import Cluster
from simulator.cluster.deployment import Deployment, specs_of
from simulator.cluster.replica_spec import ReplicaSpec
from simulator.cluster.request_table import request_table
from simulator.log import rows_by_replica
from simulator.routers import Arrival, ReplicaLoad
from traces import Trace
from traces.shared.user_code import user_place

T = TypeVar("T")
# How each backend of joblib returns results: one after another, or all at the end.
BACKENDS = {"loky": "generator", "ray": "list"}
# Few enough that workers seldom start over, many enough that all of them stay busy.
_TASKS_PER_WORKER = 8
# Specifications of the replicas of the latest run in this process. To build them, and to fill their tables of
# iteration times, takes as long as thousands of requests.
_specs: dict[str, list[ReplicaSpec]] = {}


@dataclass(frozen=True)
class Part:
    """Replicas that are simulated together, and the requests sent to them.

    Attributes:
        replicas: Numbers of the replicas; the first one gets all requests.
        rows: int64[n], the requests in the whole trace.
    """

    replicas: Sequence[int]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class PartSimulation(Generic[T]):
    """How each part is simulated.

    Attributes:
        groups: Groups of the cluster.
        collect: Returns what is kept of a cluster when its simulation has ended.
        time_limit_s: Time after which no iteration starts, seconds.
        log_members: Whether to log the members of each batch.
        log_stages: Whether to log when each pipeline stage computes.
        key: Name of the run, by which a worker knows what it has built.
    """

    groups: Sequence[Deployment]
    collect: Callable[[Trace, Cluster], T]
    time_limit_s: float
    log_members: bool
    log_stages: bool
    key: str = field(default_factory=lambda: uuid4().hex)

    def run(
        self, trace: Trace, parts: Sequence[Part], workers: int, backend: str, progress: Callable[[int], None] | None
    ) -> Iterator[T]:
        """Yield what is kept of each part, in order.

        Args:
            trace: All requests.
            parts: The parts.
            workers: Number of processes that simulate; 1: this one.
            backend: Backend of joblib that runs them, one of BACKENDS.
            progress: Called with the number of requests that have ended.

        Raises:
            ValueError: The backend is not installed.
        """
        if workers == 1:
            num_ended = 0
            for part in parts:
                yield self._simulate(part, trace.take(part.rows), progress and partial(_add, progress, num_ended))
                num_ended += len(part.rows)
            return
        yield from self._run_in_workers(trace, parts, workers, backend, progress)

    def _run_in_workers(
        self, trace: Trace, parts: Sequence[Part], workers: int, backend: str, progress: Callable[[int], None] | None
    ) -> Iterator[T]:
        from joblib import Parallel, delayed, parallel_config  # takes time to load

        size = -(-len(parts) // (workers * _TASKS_PER_WORKER))
        tasks = [parts[first : first + size] for first in range(0, len(parts), size)]
        num_ended = 0
        with parallel_config(_registered(backend), n_jobs=workers):
            # Arrays are sent, not mapped into memory: a worker needs its own only.
            run = Parallel(return_as=BACKENDS[backend], batch_size=1, max_nbytes=None)
            calls = (delayed(self._simulate_all)(task, [trace.take(part.rows) for part in task]) for task in tasks)
            for task, kept in zip(tasks, run(calls), strict=True):
                yield from kept
                num_ended += sum(len(part.rows) for part in task)
                if progress is not None:
                    progress(num_ended)

    def _simulate_all(self, parts: Sequence[Part], traces: Sequence[Trace]) -> list[T]:
        try:
            return [*map(self._simulate, parts, traces)]
        except Exception as error:
            place = user_place(error)
            if place is None:
                raise
            # A traceback does not leave its process.
            raise ValueError(f"{place}: {type(error).__name__}: {error}") from error

    def _simulate(self, part: Part, trace: Trace, progress: Callable[[int], None] | None = None) -> T:
        if self.key not in _specs:
            _specs.clear()
            _specs[self.key] = specs_of(self.groups)
        cluster = Cluster(
            request_table(trace, self.groups),
            [_specs[self.key][number] for number in part.replicas],
            _ToFirst(),
            time_limit_s=self.time_limit_s,
            log_members=self.log_members,
            log_stages=self.log_stages,
            progress=progress,
        )
        cluster.run()
        kept = self.collect(trace, cluster)
        del cluster
        gc.collect(1)  # a cluster is full of reference cycles, and the next one needs its memory
        return kept


def split(routes: NDArray[np.int64], num_replicas: int) -> list[Part]:
    """Split a cluster into parts of one replica.

    Replicas without requests belong to the first part.

    Args:
        routes: int64[num_requests], replica of each request.
        num_replicas: Replicas of the cluster.
    """
    rows = rows_by_replica(routes)
    idle = sorted({*range(num_replicas)} - {*rows})
    return [Part([number, *(() if index else idle)], rows[number]) for index, number in enumerate(rows)]


class _ToFirst:
    """Router that sends all requests to the first replica."""

    def route(self, arrival: Arrival, loads: Sequence[ReplicaLoad], random: np.random.Generator) -> int:
        return 0


def _add(progress: Callable[[int], None], num_before: int, num_ended: int) -> None:
    progress(num_before + num_ended)


def _registered(backend: str) -> str:
    """Return a backend that joblib knows.

    Raises:
        ValueError: It is not installed.
    """
    if backend == "ray":
        try:
            from ray.util import joblib as ray_joblib
        except ImportError:
            raise ValueError('cluster.backend=ray needs Ray: pip install -e ".[ray]"') from None
        ray_joblib.register_ray()  # type: ignore[no-untyped-call]
    return backend
