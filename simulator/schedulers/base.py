"""Protocol of a scheduling policy, and steps that several policies share.

The steps are the decisions of sarathi-serve's schedulers (Agrawal et al., OSDI 2024). They return a
decision and change nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import ClassVar, Protocol, runtime_checkable

from simulator.replica import Batch, DecodeSet, Replica


class Scheduler(Protocol):
    """A scheduling policy: reads a replica, returns a decision, changes nothing.

    Attributes:
        appends_blocks: Whether a decode takes another KV block when its last one is full. False: the
            policy reserves all blocks of a request at admission.
    """

    appends_blocks: ClassVar[bool]

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration.

        Returns:
            The next batch; None if nothing can be done until a request arrives or a batch in flight
            ends. A batch without tokens (it only preempts or ignores requests) is carried out, and
            the policy is called again at once.
        """
        ...

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """Return the free KV blocks needed to admit `num_tokens` known tokens.

        The tokens are those of one request.
        """
        ...


@runtime_checkable
class SizedBatches(Protocol):
    """A policy that states the size of its largest batch.

    The largest batch of any other policy is taken to be max_model_len tokens.
    """

    def profiled_tokens(self, max_model_len: int) -> int:
        """Return the number of tokens in the engine's memory profiling run.

        Source: memory profiling of sarathi-serve and vLLM, which run the largest batch before they size the KV cache.
        """
        ...


@dataclass(frozen=True)
class Overlap:
    """How the batches of a replica overlap.

    Also what else an overlapping replica needs to know of its policy.

    Attributes:
        lookahead: Whether a batch is scheduled while the one before it runs, beside one batch per pipeline stage.
        by_priority: Whether waiting requests are sorted by priority.
        watermark: Share of the KV blocks that an admission leaves free.
        max_running: Maximum running requests.
    """

    lookahead: bool
    by_priority: bool
    watermark: float
    max_running: int

    def depth(self, num_stages: int) -> int:
        """Return how many batches are scheduled before the oldest must end."""
        return num_stages + self.lookahead


@runtime_checkable
class Overlapping(Protocol):
    """A policy for an `OverlappingReplica`."""

    @property
    def overlap(self) -> Overlap:
        """How batches overlap."""
        ...


def require_at_least(name: str, value: int, low: int) -> None:
    """Check an integer parameter of a policy.

    Raises:
        ValueError: It is not an integer of at least `low` and below 2^31.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value < 2**31:
        raise ValueError(f"{name} must be an integer of at least {low} and below 2^31, got {value!r}")


class Admissions:
    """Waiting requests that pass the length and memory tests, head first.

    A head that is longer than the limit is ignored, and the next one is tested. A head that does not
    fit in memory ends the loop: no request behind it is tested. The policy tests its own caps last and
    leaves the loop if one of them fails; continuing the loop admits the head.

    Attributes:
        replica: Where the requests wait.
        ignored: Heads that were too long.
        exhausted: Whether the loop reached the end of the queue.
    """

    __slots__ = ("_free_blocks", "_limit", "_preempted", "_reserved_blocks", "exhausted", "ignored", "replica")

    def __init__(
        self,
        replica: Replica,
        *,
        free_blocks: int,
        limit: int,
        reserved_blocks: int | None = None,
        preempted: Sequence[int] = (),
    ) -> None:
        """Start at the head of a replica's queue.

        Args:
            replica: Where the requests wait.
            free_blocks: KV blocks that admissions may take.
            limit: Longest known sequence that is admitted, tokens.
            reserved_blocks: Blocks that each admission takes; None: those of its known tokens.
            preempted: Requests preempted in the same call, in order of preemption: they wait at the head.
        """
        self.replica = replica
        self.ignored: list[int] = []
        self.exhausted = False
        self._free_blocks = free_blocks
        self._limit = limit
        self._reserved_blocks = reserved_blocks
        self._preempted = preempted

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield the request, known tokens and KV blocks of each head."""
        replica, preempted = self.replica, self._preempted
        known_tokens = replica.requests.known_tokens
        free_blocks = self._free_blocks
        for request in chain(reversed(preempted), replica.waiting) if preempted else replica.waiting:
            num_tokens = replica.known_tokens(request) if request in preempted else known_tokens[request]
            if num_tokens > self._limit:
                self.ignored.append(request)
                continue
            num_blocks = self._reserved_blocks or -(-num_tokens // replica.block_size)
            if num_blocks > free_blocks:
                return
            yield request, num_tokens, num_blocks
            free_blocks -= num_blocks
        self.exhausted = True


def every_decode(decodes: DecodeSet) -> Batch:
    """Return a batch of all decodes, marked as one that repeats."""
    batch = Batch(decodes.num_requests, decodes.context_tokens)
    batch.repeats = True
    return batch


def decodes_that_fit(replica: Replica) -> Batch:
    """Return a batch of all decodes that fit, preempting the latest arrivals.

    A request is preempted when no block is free, even if the decode that is next in line still has room
    in its last block, as in the real engines. With more free blocks than the decodes need, no request
    is preempted, and the totals of the decode set give the batch.

    Returns:
        A batch of the decodes that get a KV slot for their next token, and of the requests preempted for them.
    """
    decodes = replica.decoding
    if replica.free_blocks > decodes.num_new_blocks or not decodes.num_requests:
        return every_decode(decodes)
    num_decodes = context_tokens = 0
    free_blocks = replica.free_blocks
    preempted: list[int] = []
    candidates = replica.by_arrival()
    position = 0
    while position < len(candidates):
        request = candidates[position]
        position += 1
        if request not in decodes:
            continue
        while free_blocks == 0 and len(candidates) >= position:
            victim = candidates.pop()
            preempted.append(victim)
            free_blocks += replica.num_blocks_of(victim)
        if len(candidates) < position:
            break
        free_blocks -= decodes.needs_block(request)
        num_decodes += 1
        context_tokens += decodes.context_of(request)
    batch = Batch(num_decodes, context_tokens)
    batch.preempted = preempted
    return batch


def free_blocks_after(replica: Replica, batch: Batch) -> int:
    """Return the free KV blocks after a batch's preemptions and decodes."""
    decodes = replica.decoding
    free_blocks = replica.free_blocks - decodes.num_new_blocks
    for request in batch.preempted:
        free_blocks += replica.num_blocks_of(request)
        free_blocks += request in decodes and decodes.needs_block(request)
    return free_blocks


def whole_prompts(
    admissions: Admissions, max_num_seqs: int, max_tokens: float = inf, batch: Batch | None = None
) -> Batch:
    """Add whole prompts to a batch in queue order, within the caps.

    Args:
        admissions: Heads that pass the length and memory tests.
        max_num_seqs: Maximum running requests.
        max_tokens: Maximum prompt tokens.
        batch: Batch to add the prompts to; None: a new batch.
    """
    batch = batch or Batch()
    num_running = len(admissions.replica.running)
    for request, num_tokens, num_blocks in admissions:
        if batch.num_prefill_tokens + num_tokens > max_tokens or num_running >= max_num_seqs:
            break
        batch.add_chunk(request, num_tokens, num_blocks=num_blocks)
        num_running += 1
    batch.ignored = admissions.ignored
    batch.until_arrival = admissions.exhausted
    return batch


def reserving_admissions(replica: Replica) -> Admissions:
    """Return admissions that each reserve max_model_len tokens, without a watermark."""
    return Admissions(
        replica,
        free_blocks=replica.free_blocks,
        limit=replica.max_model_len,
        reserved_blocks=replica.blocks_for(replica.max_model_len),
    )
