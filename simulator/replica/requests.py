"""The requests of a run, as the replicas see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.kv_cache import BlockHashes


@dataclass(slots=True)
class RequestTable:
    """The requests of a run, shared by its replicas. One list entry per request.

    Attributes:
        arrival_s: Arrival time; NaN: waits for the end of another request.
        known_tokens: Tokens to compute before the next token can be emitted: the prompt and, after
            a preemption, every token emitted so far.
        total_tokens: Prompt and output. Policies may not read it: a real scheduler cannot know it.
        prompt_tokens: Prompt alone.
        priority: Smaller is served first by policies that heed it; empty: all the same.
        id_rank: Place of each request when they are sorted by their ids as text; empty: its number.
        block_hashes: Hashes of the KV blocks of each request, by block size; only sizes with prefix caching.
    """

    arrival_s: list[float]
    known_tokens: list[int]
    total_tokens: list[int]
    prompt_tokens: list[int]
    priority: Sequence[int] = ()
    id_rank: Sequence[int] = ()
    block_hashes: Mapping[int, BlockHashes] = field(default_factory=dict)

    def urgency(self, request: int) -> tuple[int, float]:
        """Priority and arrival time of a request, smaller if it is to be served first."""
        return self.priority[request] if self.priority else 0, self.arrival_s[request]

    def rank(self, request: int) -> tuple[int, float, int]:
        """Return what a queue that heeds priorities is sorted by."""
        return *self.urgency(request), self.id_rank[request] if self.id_rank else request
