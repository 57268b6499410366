"""What one replica did in a run, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time import Provenance
from simulator.log import LoggedIterations, Members, StageUse
from simulator.model import Placement
from simulator.results.latency import TokenLog


@dataclass(frozen=True)
class RequestEventArrays:
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
        decode_spans: int64[k, 4], as in `TokenLog`.
    """

    admissions: NDArray[np.int64]
    blocks_needed: NDArray[np.int64]
    prefill_ends: NDArray[np.int64]
    finishes: NDArray[np.int64]
    preemptions: NDArray[np.int64]
    decode_spans: NDArray[np.int64]
    evictions: NDArray[np.int64]


@dataclass(frozen=True)
class ReplicaResult:
    """What one replica did.

    Attributes:
        logged: Its iterations as they were logged.
        request_events: What happened to its requests, by iteration.
        stages: What each pipeline stage did with its time.
        num_blocks: KV blocks.
        caches_prefixes: Whether KV blocks were found again by what they held.
        members: (request, tokens, whether they are prompt tokens) of each batch, if they were logged.
        stuck_reason: Why requests at the head of the queue can never be admitted; empty: there is none.
        provenance: Where its iteration times come from; None: they do not say.
        placement: Its GPUs.
        moved: int64[l], requests that failures threw out or held up, here or elsewhere.
    """

    logged: LoggedIterations
    request_events: RequestEventArrays
    stages: Sequence[StageUse]
    num_blocks: int
    members: list[Members] | None
    stuck_reason: str
    provenance: Provenance | None
    placement: Placement
    caches_prefixes: bool = False
    moved: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

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
        return len(self.request_events.preemptions)

    @cached_property
    def tokens(self) -> TokenLog:
        """When requests emitted tokens."""
        decode_set: NDArray[Any] = self.logged.columns["decode_set"]
        request_events = self.request_events
        return TokenLog(
            self.logged.end_s, decode_set, request_events.prefill_ends, request_events.decode_spans, self.moved
        )

    @property
    def stage_spans(self) -> NDArray[np.float64] | None:
        """When each stage began and ended to compute: float64[num_iterations, pp, 2]; None: it was not logged."""
        if self.placement.pp > 1:
            return self.logged.stage_spans
        return np.stack([self.logged.columns["start_s"], self.logged.end_s], axis=-1)[:, np.newaxis]
