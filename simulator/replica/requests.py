"""The requests of a simulation, as the replicas see them."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from simulator.kv_cache import BlockHashes
from simulator.replica.errors import PolicyError


class Lengths(list[int]):
    """Tokens of each request; policies only read them."""

    def __setitem__(self, request: object, num_tokens: object) -> NoReturn:
        raise PolicyError("the policy changes the length of a request")

    def set(self, request: int, num_tokens: int) -> None:
        """Set the tokens of a request."""
        list.__setitem__(self, request, num_tokens)


class RequestTable:
    """Requests of a simulation, shared by its replicas.

    Each list has one entry per request.

    Attributes:
        arrival_s: Arrival time at the cluster in seconds; NaN: waits for the end of another request.
        known_tokens: Tokens to compute before the next token can be emitted: the prompt and, after
            a preemption, every token emitted so far.
        total_tokens: Prompt and output tokens. Policies may not read it: a real scheduler cannot know it.
        prompt_tokens: Prompt tokens.
        priority: Priority of each request; policies with priorities serve smaller ones first. Empty: all equal.
        id_rank: Position of each request in the order of the ids as text; empty: its index.
        block_hashes: Block hashes of the requests by block size, only for sizes used with prefix caching.
        engine_arrival_s: Arrival time at its current replica in seconds; that at the cluster until it is sent to one.
    """

    __slots__ = (
        "arrival_s",
        "block_hashes",
        "engine_arrival_s",
        "id_rank",
        "known_tokens",
        "priority",
        "prompt_tokens",
        "total_tokens",
    )

    def __init__(
        self,
        arrival_s: list[float],
        known_tokens: Sequence[int],
        total_tokens: Sequence[int],
        prompt_tokens: Sequence[int],
        priority: Sequence[int] = (),
        id_rank: Sequence[int] = (),
        block_hashes: Mapping[int, BlockHashes] | None = None,
    ) -> None:
        """Take the requests; the arguments are the attributes of the same names."""
        self.arrival_s = arrival_s
        self.known_tokens = Lengths(known_tokens)
        self.total_tokens = Lengths(total_tokens)
        self.prompt_tokens = prompt_tokens
        self.priority = priority
        self.id_rank = id_rank
        self.block_hashes = block_hashes or {}
        self.engine_arrival_s = list(arrival_s)

    def urgency(self, request: int) -> tuple[int, float]:
        """Return priority and arrival time of a request; smaller is served first."""
        return self.priority[request] if self.priority else 0, self.engine_arrival_s[request]

    def rank(self, request: int) -> tuple[int, float, int]:
        """Return the sort key of a request in a priority queue."""
        return *self.urgency(request), self.id_rank[request] if self.id_rank else request
