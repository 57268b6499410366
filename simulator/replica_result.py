"""What one replica did in a run, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.cluster import ReplicaSpec
from simulator.engine import ReplicaRun
from simulator.iteration_log import Members
from simulator.iteration_time.base import Documented, Provenance
from simulator.metrics import TokenLog
from simulator.stages import StageUse


@dataclass(frozen=True)
class ReplicaResult:
    """What one replica did.

    Attributes:
        iterations: float64 or int64[num_iterations] by name: schedule_s (when the scheduler decided),
            start_s (first stage), end_s (last stage), num_prefill_tokens, num_decodes, context_tokens
            (in the KV cache at the start), free_blocks (after the decision), decode_set.
        tokens: When requests emitted tokens.
        stages: What each pipeline stage did with its time.
        num_blocks: KV blocks.
        members: (request, tokens, whether they are prompt tokens) of each batch, if they were logged.
        num_preemptions: Preemptions of any request.
        obstacle: Why requests at the head of the queue can never be admitted; empty: there is none.
        provenance: Where its iteration times come from; None: they do not say.
        spec: What made it.
    """

    iterations: dict[str, NDArray[Any]]
    tokens: TokenLog
    stages: Sequence[StageUse]
    num_blocks: int
    members: list[Members] | None
    num_preemptions: int
    obstacle: str
    provenance: Provenance | None
    spec: ReplicaSpec

    @classmethod
    def collect(cls, spec: ReplicaSpec, run: ReplicaRun, table: dict[str, NDArray[Any]]) -> "ReplicaResult":
        """Turn a replica's log into arrays, and enter its requests into the table of all requests."""
        replica, history = run.replica, run.replica.history
        iterations: dict[str, NDArray[Any]] = {**run.log.to_arrays()}
        end_s = iterations["end_s"]
        admissions, prefill_ends = _table(history.admissions, 2), _table(history.prefill_ends, 2)
        finishes, preemptions = _table(history.finishes, 2), _table(history.preemptions, 2)
        _enter_first(table["first_scheduled_s"], admissions, iterations["schedule_s"])
        _enter_first(table["first_token_s"], prefill_ends, end_s)
        _enter_first(table["completed_s"], finishes, end_s)
        np.add.at(table["num_preemptions"], preemptions[:, 0], 1)
        table["ignored"][history.ignored] = 1
        residencies = _table(replica.residencies(), 4)
        return cls(
            iterations=iterations,
            tokens=TokenLog(end_s, iterations["decode_set"], prefill_ends, residencies),
            stages=run.stages,
            num_blocks=replica.num_blocks,
            members=run.log.members(),
            num_preemptions=len(preemptions),
            obstacle=_obstacle(run, table["request_id"]),
            provenance=run.stage_times.provenance if isinstance(run.stage_times, Documented) else None,
            spec=spec,
        )


def _table(rows: Sequence[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(rows), np.int64, width * len(rows)).reshape(-1, width)


def _enter_first(column: NDArray[Any], events: NDArray[np.int64], times: NDArray[np.float64]) -> None:
    """Enter, for each request, the time of its first event."""
    requests, first = np.unique(events[:, 0], return_index=True)
    column[requests] = times[events[first, 1]]


def _obstacle(run: ReplicaRun, request_id: NDArray[Any]) -> str:
    replica = run.replica
    if run.cut_off or not replica.waiting:
        return ""
    head = replica.waiting[0]
    num_tokens = replica.known_tokens(head)
    needed = run.scheduler.blocks_to_admit(replica, num_tokens)
    if needed <= replica.num_blocks:
        return ""
    return (
        f"Request {request_id[head]} ({num_tokens} tokens) needs {needed} free KV blocks to be admitted and the "
        f"replica has {replica.num_blocks} in all; {len(replica.waiting) - 1} requests wait behind it."
    )
