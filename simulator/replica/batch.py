"""The batch of one iteration."""

from collections.abc import Iterable

from simulator.replica.decode_set import DecodeSet


class PrefillChunk:
    """Prompt tokens of one request in one iteration.

    Attributes:
        request: Index of the request.
        num_tokens: Tokens computed in this iteration, at least 1.
        context_tokens: Tokens of the request before the chunk that are already in the KV cache,
            computed earlier or, at admission, found in a prefix cache.
    """

    __slots__ = ("context_tokens", "num_tokens", "request")

    def __init__(self, request: int, num_tokens: int, context_tokens: int = 0) -> None:
        self.request = request
        self.num_tokens = num_tokens
        self.context_tokens = context_tokens

    def __repr__(self) -> str:
        return f"PrefillChunk({self.request}, {self.num_tokens}, {self.context_tokens})"


class Batch:
    """Tokens computed in one iteration, and changes to the requests before it.

    The verbs of a replica fill it in while a policy decides. The policy itself sets only `repeats`, `until_arrival` and
    `note`.

    Attributes:
        num_decodes: Requests that decode.
        decode_context_tokens: Tokens of these requests already in the KV cache, summed.
        chunks: Prefill chunks in batch order.
        num_prefill_tokens: Tokens of the chunks, summed.
        prefill_context_tokens: Tokens before the chunks already in the KV cache, summed.
        preempted: Requests that lost their KV blocks, in order of preemption.
        ignored: Waiting requests that were refused because they are too long.
        repeats: Whether the policy would decide the same again, each chunk continuing with as many tokens, until
            a request arrives or ends, a prefill has less than a chunk left, or no more KV blocks are free than
            the decodes need. Until then the engine repeats the batch without calling the policy.
        until_arrival: Whether an arrival could change a decision that repeats. It cannot if the head of a queue
            without overtaking waits, or if the token budget is used up.
        note: State that the policy finds in `Replica.note` at its next call; None keeps the previous note.
        decodes: Decode set of its decodes, once it is in flight; None: it has none.
        iteration: Iterations of that set when it started, this one included.
        scheduled: Requests that decode in it, if they can be scheduled again before it ends; None: those in `decodes`.
        finishing: Requests that it gives their last token.
        results_of_preempted: Requests preempted since it started, and the kind of result that it gives them.
        num_repeats: How often the batch in flight can be repeated before the last full chunk of a prefill.
    """

    __slots__ = (
        "chunks",
        "decode_context_tokens",
        "decodes",
        "finishing",
        "ignored",
        "iteration",
        "note",
        "num_decodes",
        "num_prefill_tokens",
        "num_repeats",
        "preempted",
        "prefill_context_tokens",
        "repeats",
        "results_of_preempted",
        "scheduled",
        "until_arrival",
    )

    def __init__(self) -> None:
        self.decodes: DecodeSet | None = None
        self.iteration = 0
        self.scheduled: list[int] | None = None
        self.finishing: list[int] = []
        self.results_of_preempted: dict[int, int] = {}
        self.num_repeats = 0
        self.num_decodes = 0
        self.decode_context_tokens = 0
        self.chunks: list[PrefillChunk] = []
        self.num_prefill_tokens = 0
        self.prefill_context_tokens = 0
        self.preempted: list[int] = []
        self.ignored: list[int] = []
        self.repeats = False
        self.until_arrival = True
        self.note: object = None

    @classmethod
    def of(cls, prefills: Iterable[tuple[int, int]], decodes: Iterable[tuple[int, int]]) -> "Batch":
        """Build a batch of given sizes.

        Args:
            prefills: (tokens of the chunk, tokens before it in the KV cache) of each prefill.
            decodes: (number of decodes, tokens that each has in the KV cache) of each group.

        Raises:
            ValueError: A chunk has no tokens.
        """
        batch = cls()
        for count, context_tokens in decodes:
            batch.num_decodes += count
            batch.decode_context_tokens += count * context_tokens
        for request, (num_tokens, context_tokens) in enumerate(prefills):
            batch.add_chunk(request, num_tokens, context_tokens)
        return batch

    def add_chunk(self, request: int, num_tokens: int, context_tokens: int) -> None:
        """Add a prefill chunk; the arguments are those of `PrefillChunk`.

        Raises:
            ValueError: The chunk has no tokens.
        """
        if num_tokens < 1:
            raise ValueError(f"a prefill chunk has at least 1 token, got {num_tokens}")
        self.chunks.append(PrefillChunk(request, num_tokens, context_tokens))
        self.num_prefill_tokens += num_tokens
        self.prefill_context_tokens += context_tokens

    def remove_chunk(self, request: int) -> None:
        """Remove the chunk of a request, if it has one."""
        for position, chunk in enumerate(self.chunks):
            if chunk.request == request:
                del self.chunks[position]
                self.num_prefill_tokens -= chunk.num_tokens
                self.prefill_context_tokens -= chunk.context_tokens
                return

    @property
    def num_tokens(self) -> int:
        """Prefill and decode tokens of the iteration."""
        return self.num_prefill_tokens + self.num_decodes

    @property
    def decides_anything(self) -> bool:
        """Whether the batch computes tokens or preempts or ignores requests."""
        return bool(self.num_decodes or self.chunks or self.preempted or self.ignored)

    # -- in flight ------------------------------------------------------------------------------

    def live_decodes(self) -> list[int]:
        """Return the requests that decode in it, without preempted ones."""
        if self.scheduled is not None:
            return [request for request in self.scheduled if request not in self.results_of_preempted]
        return [*(self.decodes or ()), *self.finishing]

    def live_chunks(self) -> list[PrefillChunk]:
        """Return its chunks, without those of preempted requests."""
        preempted = self.results_of_preempted
        return [chunk for chunk in self.chunks if chunk.request not in preempted] if preempted else self.chunks
