"""Log of one replica in a run, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time import Provenance
from simulator.log import LoggedIterations, Members, StageUse
from simulator.model import FrontEndTime, Placement
from simulator.results.tokens import TokenLog, token_spans


@dataclass(frozen=True)
class RequestEventArrays:
    """Request events of a replica, by iteration.

    Attributes:
        admissions: int64[k, 4], of each move from waiting to running: request, iteration, tokens found in the prefix
            cache, and KV blocks of these that other requests reference.
        blocks_needed: int64[k], KV blocks that had to be free for each admission, without those that other requests
            reference.
        prefill_ends: int64[k, 2], request and iteration of each completed prefill.
        finishes: int64[k, 2], request and iteration of each last token.
        preemptions: int64[k, 2], request and the iteration that began next.
        evictions: int64[k, 2], number of evicted KV blocks and the iteration that began next.
        decode_spans: int64[k, 4], as in `TokenLog`.
    """

    admissions: NDArray[np.int64]
    blocks_needed: NDArray[np.int64]
    prefill_ends: NDArray[np.int64]
    finishes: NDArray[np.int64]
    preemptions: NDArray[np.int64]
    decode_spans: NDArray[np.int64]
    evictions: NDArray[np.int64]

    def renumbered(self, numbers: NDArray[np.int64]) -> "RequestEventArrays":
        """Return the same events of requests with other numbers.

        Args:
            numbers: int64[num_requests], new number of each request.
        """
        names = ("admissions", "prefill_ends", "finishes", "preemptions", "decode_spans")
        tables = {name: getattr(self, name).copy() for name in names}
        for table in tables.values():
            table[:, 0] = numbers[table[:, 0]]
        return replace(self, **tables)


@dataclass(frozen=True)
class ReplicaResult:
    """Log of one replica.

    Attributes:
        logged: Its iterations as logged.
        request_events: Its request events, by iteration.
        stages: How each pipeline stage spent its time.
        num_blocks: KV blocks.
        caches_prefixes: Whether it has a prefix cache.
        members: (request, tokens, whether they are prompt tokens) of each batch; None: not logged.
        stuck_reason: Why the request at the head of the queue can never be admitted; empty: none is stuck.
        provenance: Where its iteration times come from; None: unknown.
        placement: Its GPUs.
        front_end: Times of its front end.
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
    front_end: FrontEndTime = field(default_factory=FrontEndTime)

    @cached_property
    def delivered_s(self) -> NDArray[np.float64]:
        """When the tokens of each iteration reached the clients: float64[num_iterations]."""
        columns = self.logged.columns
        return self.front_end.delivered_s(self.logged.end_s, columns["num_decodes"] + columns["num_prefills"])

    @property
    def front_end_busy_s(self) -> float:
        """Seconds for which the event loop of the front end works."""
        columns, admissions = self.logged.columns, self.request_events.admissions
        num_tokens = int(columns["num_decodes"].sum() + columns["num_prefills"].sum())
        return self.front_end.busy_s(len(np.unique(admissions[:, 0])), len(self.logged.end_s), num_tokens)

    @property
    def iterations(self) -> dict[str, NDArray[Any]]:
        """Iterations by column, float64 or int64[num_iterations].

        schedule_s (when the scheduler decided), start_s (first stage), end_s (last stage), num_prefills (chunks),
        num_prefill_tokens, num_decodes, prefill_context_tokens and decode_context_tokens (of those requests in the KV
        cache at the start), context_tokens (both), free_blocks (after the decision), decode_set.
        """
        return {**self.logged.columns}

    @property
    def num_preemptions(self) -> int:
        """Preemptions, of all requests."""
        return len(self.request_events.preemptions)

    @cached_property
    def tokens(self) -> TokenLog:
        """Tokens that it emitted."""
        decode_set = self.logged.columns["decode_set"].astype(np.int32)
        request_events = self.request_events
        return TokenLog(self.delivered_s, decode_set, request_events.prefill_ends, request_events.decode_spans)

    def with_tokens_after(self, time_s: NDArray[np.float64]) -> "ReplicaResult":
        """Return the same log with only the tokens that count.

        Args:
            time_s: float64[num_requests], the time until which tokens of each request do not count.
        """
        request, _, last = token_spans(self.tokens)
        counts, events = self.logged.end_s[last] > time_s[request], self.request_events
        prefill_ends, decode_spans = events.prefill_ends, events.decode_spans
        counted = prefill_ends[counts[: len(prefill_ends)]], decode_spans[counts[len(prefill_ends) :]]
        return replace(self, request_events=replace(events, prefill_ends=counted[0], decode_spans=counted[1]))

    def renumbered(self, numbers: NDArray[np.int64]) -> "ReplicaResult":
        """Return the same log with other numbers of the requests.

        Args:
            numbers: int64[num_requests], new number of each request.
        """
        members = self.members
        if members is not None:
            new = numbers.tolist()
            members = [[(new[request], *rest) for request, *rest in batch] for batch in members]
        return replace(self, request_events=self.request_events.renumbered(numbers), members=members)

    @property
    def stage_spans(self) -> NDArray[np.float64] | None:
        """Start and end of each stage's computation; None: not logged.

        float64[num_iterations, pp, 2], seconds.
        """
        if self.placement.pp > 1:
            return self.logged.stage_spans
        return np.stack([self.logged.columns["start_s"], self.logged.end_s], axis=-1)[:, np.newaxis]
