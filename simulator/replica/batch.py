"""What one iteration computes: the value that a scheduler returns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class PrefillChunk:
    """Prompt tokens of one request in one iteration.

    Attributes:
        request: Index of the request.
        num_tokens: Tokens computed in this iteration, at least 1.
        context_tokens: Tokens of the request before the chunk that are already in the KV cache,
            computed earlier or (at admission) found in a prefix cache.
        num_blocks: KV blocks that the replica takes for the request when the chunk starts. How many
            is the policy's decision: the whole prompt at admission, or only what the chunk needs.
    """

    request: int
    num_tokens: int
    context_tokens: int = 0
    num_blocks: int = 0


class Batch:
    """What one iteration computes, and what has to happen before it can.

    A batch says how many requests decode and not which: all that are between iterations, without
    `preempted` and `skipped_decodes`. A policy fills it in and returns it; after that only the replica changes
    it, and only to repeat it. It may hold no tokens at all and only say who is preempted or ignored.

    Attributes:
        num_decodes: Requests that decode one token each.
        decode_context_tokens: Tokens of these requests already in the KV cache, summed.
        chunks: Prefill chunks in the batch's own order; add one with `add_chunk`.
        num_prefill_tokens: Tokens of the chunks, summed.
        prefill_context_tokens: Tokens before the chunks already in the KV cache, summed.
        preempted: Requests that lose their KV blocks first, in order of preemption.
        ignored: Waiting requests that are refused because they are too long.
        skipped_decodes: Decoding requests that do not take part in this iteration.
        running_order: The replica's running requests in a new order; None leaves it as it is.
        repeats: Whether the policy would decide the same again and again, each chunk going on by as many
            tokens, until a request arrives or ends, a prefill has less than a chunk to go, or no more KV
            blocks are free than the decodes need. The engine then goes on without asking.
        until_arrival: Whether a request that arrives could change a decision that stands. It cannot if
            the head of a queue without overtaking waits, or if the token budget is used up.
        is_open: Whether the policy decides the batch in several steps and this is not the last one. It is
            carried out, and the policy is asked again with the batch so far in `OverlappingReplica.step`.
        blocks_before: KV blocks that requests are given, in the same call, before one is preempted: what nobody
            holds is reused for them first. They get them with a later step.
        undone: Tokens of these that the preempted request itself was given; they are not computed.
        note: What the policy wants to find in the replica when it is asked again; None: what it noted before.
    """

    __slots__ = (
        "blocks_before",
        "chunks",
        "decode_context_tokens",
        "ignored",
        "is_open",
        "note",
        "num_decodes",
        "num_prefill_tokens",
        "preempted",
        "prefill_context_tokens",
        "repeats",
        "running_order",
        "skipped_decodes",
        "undone",
        "until_arrival",
    )

    def __init__(self, num_decodes: int = 0, decode_context_tokens: int = 0) -> None:
        self.num_decodes = num_decodes
        self.decode_context_tokens = decode_context_tokens
        self.chunks: list[PrefillChunk] = []
        self.num_prefill_tokens = 0
        self.prefill_context_tokens = 0
        self.preempted: Sequence[int] = ()
        self.ignored: Sequence[int] = ()
        self.skipped_decodes: Sequence[int] = ()
        self.running_order: Sequence[int] | None = None
        self.repeats = False
        self.until_arrival = True
        self.is_open = False
        self.blocks_before = 0
        self.undone = 0
        self.note: object = None

    def add_chunk(self, request: int, num_tokens: int, context_tokens: int = 0, num_blocks: int = 0) -> None:
        """Compute a chunk of a prefill in this iteration; the arguments are those of `PrefillChunk`."""
        self.chunks.append(PrefillChunk(request, num_tokens, context_tokens, num_blocks))
        self.num_prefill_tokens += num_tokens
        self.prefill_context_tokens += context_tokens

    def extend(self, step: "Batch") -> None:
        """Add what the next step of the same decision says."""
        self.num_decodes += step.num_decodes
        self.decode_context_tokens += step.decode_context_tokens
        self.chunks += step.chunks
        self.num_prefill_tokens += step.num_prefill_tokens
        self.prefill_context_tokens += step.prefill_context_tokens
        self.preempted = [*self.preempted, *step.preempted]
        self.repeats, self.until_arrival = step.repeats, step.until_arrival

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed."""
        return self.num_prefill_tokens + self.num_decodes

    @classmethod
    def of(cls, prefills: Iterable[tuple[int, int]], decodes: Iterable[tuple[int, int]]) -> "Batch":
        """Return a batch of given sizes.

        Args:
            prefills: (tokens of the chunk, tokens before it in the KV cache) for each prefill.
            decodes: (number of decodes, tokens in the KV cache of each).
        """
        groups = list(decodes)
        batch = cls(sum(count for count, _ in groups), sum(count * context for count, context in groups))
        for request, (num_tokens, context_tokens) in enumerate(prefills):
            batch.add_chunk(request, num_tokens, context_tokens)
        return batch

    @property
    def decides_anything(self) -> bool:
        """Whether it computes tokens or preempts or ignores requests."""
        return bool(self.num_decodes or self.chunks or self.preempted or self.ignored)
