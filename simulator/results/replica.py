"""What one replica did in a run, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.cluster.cluster import Placement, ReplicaSpec
from simulator.engine.base import ReplicaRun
from simulator.engine.pipeline_stages import StageUse
from simulator.iteration_time.base import Documented, Provenance
from simulator.log.iterations import LoggedIterations
from simulator.replica.replica import Members
from simulator.results.latency import TokenLog


@dataclass(frozen=True)
class Events:
    """What happened to the requests of a replica, by the number of the iteration.

    Attributes:
        admissions: int64[k, 4], request, iteration, tokens found in the prefix cache, and KV blocks of these that
            others hold, of each move from waiting to running.
        blocks_needed: int64[k], KV blocks that had to be free for each of them, what others hold left out; of
            further ones of a preempted request those of its last one.
        prefill_ends: int64[k, 2], request and iteration of each completed prefill.
        finishes: int64[k, 2], request and iteration of each last token.
        preemptions: int64[k, 2], request and the iteration that began next.
        evictions: int64[k, 2], KV blocks that lost what they held, and the iteration that began next.
        residencies: int64[k, 4], as in `TokenLog`.
    """

    admissions: NDArray[np.int64]
    blocks_needed: NDArray[np.int64]
    prefill_ends: NDArray[np.int64]
    finishes: NDArray[np.int64]
    preemptions: NDArray[np.int64]
    residencies: NDArray[np.int64]
    evictions: NDArray[np.int64]


@dataclass(frozen=True)
class ReplicaResult:
    """What one replica did.

    Attributes:
        logged: Its iterations as they were logged.
        history: What happened to its requests, by iteration.
        stages: What each pipeline stage did with its time.
        num_blocks: KV blocks.
        caches_prefixes: Whether KV blocks were found again by what they held.
        members: (request, tokens, whether they are prompt tokens) of each batch, if they were logged.
        obstacle: Why requests at the head of the queue can never be admitted; empty: there is none.
        provenance: Where its iteration times come from; None: they do not say.
        placement: Its GPUs.
        moved: int64[l], requests that failures threw out or held up, here or elsewhere.
    """

    logged: LoggedIterations
    history: Events
    stages: Sequence[StageUse]
    num_blocks: int
    members: list[Members] | None
    obstacle: str
    provenance: Provenance | None
    placement: Placement
    caches_prefixes: bool = False
    moved: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def collect(
        cls, spec: ReplicaSpec, run: ReplicaRun, table: dict[str, NDArray[Any]], moved: NDArray[np.int64]
    ) -> "ReplicaResult":
        """Turn a replica's log into arrays, and enter its requests into the table of all requests."""
        replica, history = run.replica, run.replica.history
        logged = run.log.logged()
        admissions = _table(history.admissions, 4)
        events = Events(
            admissions=admissions,
            blocks_needed=_blocks_needed(run, admissions[:, 0], table["prompt_tokens"]) - admissions[:, 3],
            prefill_ends=_without(history.discards, 0, _table(history.prefill_ends, 2)),
            finishes=_table(history.finishes, 2),
            preemptions=_table(history.preemptions, 2),
            evictions=_table(history.evictions, 2),
            residencies=_without(history.discards, 1, _table(replica.residencies(), 4)),
        )
        _enter_first(table["first_scheduled_s"], events.admissions, logged.columns["schedule_s"])
        _enter_first(table["first_token_s"], events.prefill_ends, logged.end_s)
        _enter_first(table["completed_s"], events.finishes, logged.end_s)
        np.add.at(table["num_preemptions"], events.preemptions[:, 0], 1)
        table["ignored"][history.ignored] = 1
        return cls(
            logged=logged,
            history=events,
            stages=run.stages,
            num_blocks=replica.num_blocks,
            members=run.log.members(),
            obstacle=_obstacle(run, table["request_id"]),
            provenance=spec.stage_times.provenance if isinstance(spec.stage_times, Documented) else None,
            placement=spec.placement,
            caches_prefixes=spec.prefix_caching,
            moved=moved,
        )

    @property
    def iterations(self) -> dict[str, NDArray[Any]]:
        """The iterations, float64 or int64[num_iterations] by name.

        schedule_s (when the scheduler decided), start_s (first stage), end_s (last stage), num_prefills (chunks),
        num_prefill_tokens, num_decodes, prefill_context_tokens and decode_context_tokens (of those requests in the KV
        cache at the start), context_tokens (both), free_blocks (after the decision), decode_set.
        """
        return {**self.logged.columns}

    @property
    def num_preemptions(self) -> int:
        """Preemptions of any request."""
        return len(self.history.preemptions)

    @cached_property
    def tokens(self) -> TokenLog:
        """When requests emitted tokens."""
        decode_set: NDArray[Any] = self.logged.columns["decode_set"]
        history = self.history
        return TokenLog(self.logged.end_s, decode_set, history.prefill_ends, history.residencies, self.moved)

    @property
    def stage_spans(self) -> NDArray[np.float64] | None:
        """When each stage began and ended to compute: float64[num_iterations, pp, 2]; None: it was not logged."""
        if self.placement.pp > 1:
            return self.logged.stage_spans
        return np.stack([self.logged.columns["start_s"], self.logged.end_s], axis=-1)[:, np.newaxis]


def _blocks_needed(run: ReplicaRun, admitted: NDArray[np.int64], prompts: NDArray[np.int64]) -> NDArray[np.int64]:
    """KV blocks that have to be free for each admission: the first of a request, and the last if it was preempted."""
    known = run.replica.requests.prefill_tokens
    num_tokens = np.array([known[request] for request in admitted.tolist()], dtype=np.int64)
    first = np.unique(admitted, return_index=True)[1]
    num_tokens[first] = prompts[admitted[first]]
    sizes, inverse = np.unique(num_tokens, return_inverse=True)
    needed = [run.scheduler.blocks_to_admit(run.replica, size) for size in sizes.tolist()]
    return np.array(needed, dtype=np.int64)[inverse]


def _table(rows: Sequence[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(rows), np.int64, width * len(rows)).reshape(-1, width)


def _without(discards: Sequence[tuple[list[int], int, int]], which: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out rows of requests whose tokens until then do not count."""
    kept = np.ones(len(rows), dtype=bool)
    for requests, *numbers in discards:
        kept[: numbers[which]] &= ~np.isin(rows[: numbers[which], 0], requests)
    return rows[kept]


def _enter_first(column: NDArray[Any], events: NDArray[np.int64], times: NDArray[np.float64]) -> None:
    """Enter, for each request, the time of its first event, if it had none before on another replica."""
    requests, first = np.unique(events[:, 0], return_index=True)
    column[requests] = np.fmin(column[requests], times[events[first, 1]])


def _obstacle(run: ReplicaRun, request_id: NDArray[Any]) -> str:
    replica = run.replica
    left = [*replica.running, *replica.waiting]
    if run.cut_off or not left:
        return ""
    behind = f"{len(left) - 1} requests wait behind it."
    for request in left[: len(replica.running) + 1]:
        num_tokens = replica.known_tokens(request)
        needed = max(run.scheduler.blocks_to_admit(replica, num_tokens), replica.blocks_for(num_tokens))
        if needed > replica.num_blocks:
            return (
                f"Request {request_id[request]} ({num_tokens} tokens) needs {needed} free KV blocks and the replica "
                f"has {replica.num_blocks} in all; {behind}"
            )
    policy = type(run.scheduler).__name__
    return (
        f"Request {request_id[left[0]]} ({replica.known_tokens(left[0])} tokens) waits at the head of the queue and "
        f"{policy}, as it is set, never admits it; {behind}"
    )
