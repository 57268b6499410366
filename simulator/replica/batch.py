"""The batch of one iteration, as a scheduler returns it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class PrefillChunk:
    """Prompt tokens of one request in one iteration.

    Attributes:
        request: Index of the request.
        num_tokens: Tokens computed in this iteration, at least 1.
        context_tokens: Tokens of the request before the chunk that are already in the KV cache,
            computed earlier or, at admission, found in a prefix cache.
        num_blocks: KV blocks that the replica allocates to the request when the chunk starts. The policy
            decides how many: those of the whole prompt at admission, or only those the chunk needs.
    """

    request: int
    num_tokens: int
    context_tokens: int = 0
    num_blocks: int = 0


class Batch:
    """Tokens computed in one iteration, and changes to the requests before it.

    A batch gives the number of decodes and not the requests: all decoding requests that are not in flight take part,
    except `preempted` and `skipped_decodes`. A policy fills it in and returns it; after that only the replica
    changes it, and only to repeat it. It may have no tokens and only preempt or ignore requests.

    Attributes:
        num_decodes: Requests that decode one token each.
        decode_context_tokens: Tokens of these requests already in the KV cache, summed.
        chunks: Prefill chunks in batch order; `add_chunk` appends to them.
        num_prefill_tokens: Tokens of the chunks, summed.
        prefill_context_tokens: Tokens before the chunks already in the KV cache, summed.
        preempted: Requests that lose their KV blocks before the iteration, in order of preemption.
        ignored: Waiting requests that are refused because they are too long.
        skipped_decodes: Decoding requests that do not take part in this iteration.
        running_order: The replica's running requests in a new order; None keeps the order.
        repeats: Whether the policy would decide the same again, each chunk continuing with as many tokens, until
            a request arrives or ends, a prefill has less than a chunk left, or no more KV blocks are free than
            the decodes need. Until then the engine repeats the batch without calling the policy.
        until_arrival: Whether an arrival could change a decision that repeats. It cannot if the head of a queue
            without overtaking waits, or if the token budget is used up.
        is_open: Whether the policy decides the batch in several steps and this is not the last one. The replica
            carries the step out, and the policy is called again with the batch so far in `OverlappingReplica.step`.
        blocks_before: KV blocks given to requests earlier in the same call, before the preemption. Cached blocks
            are evicted for them first; the requests are allocated the blocks in a later step.
        undone: Tokens given to the preempted request itself earlier in the same call; they are not computed.
        note: State that the policy keeps in the replica for its next call; None keeps the previous note.
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
        """Add a prefill chunk; the arguments are those of `PrefillChunk`.

        Raises:
            ValueError: The chunk has no tokens.
        """
        if num_tokens < 1:
            raise ValueError(f"a prefill chunk has at least 1 token, got {num_tokens}")
        self.chunks.append(PrefillChunk(request, num_tokens, context_tokens, num_blocks))
        self.num_prefill_tokens += num_tokens
        self.prefill_context_tokens += context_tokens

    def extend(self, step: "Batch") -> None:
        """Add the next step of the same decision."""
        self.num_decodes += step.num_decodes
        self.decode_context_tokens += step.decode_context_tokens
        self.chunks += step.chunks
        self.num_prefill_tokens += step.num_prefill_tokens
        self.prefill_context_tokens += step.prefill_context_tokens
        self.preempted = [*self.preempted, *step.preempted]
        self.repeats, self.until_arrival = step.repeats, step.until_arrival

    @property
    def num_tokens(self) -> int:
        """Prefill and decode tokens of the iteration."""
        return self.num_prefill_tokens + self.num_decodes

    @classmethod
    def of(cls, prefills: Iterable[tuple[int, int]], decodes: Iterable[tuple[int, int]]) -> "Batch":
        """Build a batch of given sizes.

        Args:
            prefills: (tokens of the chunk, tokens before it in the KV cache) of each prefill.
            decodes: (number of decodes, tokens that each has in the KV cache) of each group.
        """
        groups = list(decodes)
        batch = cls(sum(count for count, _ in groups), sum(count * context for count, context in groups))
        for request, (num_tokens, context_tokens) in enumerate(prefills):
            batch.add_chunk(request, num_tokens, context_tokens)
        return batch

    @property
    def decides_anything(self) -> bool:
        """Whether the batch computes tokens or preempts or ignores requests."""
        return bool(self.num_decodes or self.chunks or self.preempted or self.ignored)
