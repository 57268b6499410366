"""What every scheduling policy answers, and the steps that several policies share.

The steps are the decisions of sarathi-serve's schedulers (Agrawal et al., OSDI 2024). They return what
they would do and change nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import ClassVar, Protocol, runtime_checkable

from simulator.replica import Batch, DecodeSet, Replica


class Scheduler(Protocol):
    """A scheduling policy. It reads a replica and returns a decision; it changes nothing.

    Attributes:
        appends_blocks: Whether a decode takes another KV block when its last one is full. False: the
            policy reserves at admission all blocks that a request will ever have.
    """

    appends_blocks: ClassVar[bool]

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration.

        Returns:
            The next batch; None if nothing can be done until a request arrives or a batch in flight
            ends. A batch without tokens (requests preempted or ignored only) is carried out, and
            the policy is asked again at once.
        """
        ...

    def blocks_to_admit(self, replica: Replica, num_tokens: int) -> int:
        """KV blocks that have to be free for the policy to admit a request of so many known tokens."""
        ...


@runtime_checkable
class SizedBatches(Protocol):
    """A policy that says how large its batches get; others are taken to have at most max_model_len tokens."""

    def profiled_tokens(self, max_model_len: int) -> int:
        """Tokens of the forward pass by which the engine finds out how much memory activations take.

        Source: memory profiling of sarathi-serve and vLLM, which run the largest batch before they size the KV cache.
        """
        ...


@dataclass(frozen=True)
class Overlap:
    """How the batches of a replica overlap, and what else such a replica has to know.

    Attributes:
        lookahead: Whether a batch is formed while the one before it runs, on top of one for each pipeline stage.
        by_priority: Whether waiting requests are sorted by priority.
        watermark: Share of the KV blocks that an admission leaves free.
        max_running: Running requests at most.
    """

    lookahead: bool
    by_priority: bool
    watermark: float
    max_running: int

    def depth(self, num_stages: int) -> int:
        """Batches that are decided before the oldest one has to end."""
        return num_stages + self.lookahead


@runtime_checkable
class Overlapping(Protocol):
    """A policy for an `OverlappingReplica`."""

    @property
    def overlap(self) -> Overlap:
        """How batches overlap."""
        ...


def require_at_least(name: str, value: int, least: int) -> None:
    """Check a policy's parameter.

    Raises:
        ValueError: It is not an integer of at least `least` and below 2^31.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise ValueError(f"{name} must be an integer of at least {least} and below 2^31, got {value!r}")


class Admissions:
    """Heads of the queue that may be admitted, one after another.

    A head that is longer than the limit is ignored and the next one is looked at. A head for which there
    is no memory ends the iteration: nothing behind it is looked at. The policy's own caps are the last
    test. A policy leaves the loop if one of them fails; going on means that the head is admitted.

    Attributes:
        replica: Where the requests wait.
        ignored: Heads that were too long.
        exhausted: Whether nobody waits behind those that were admitted.
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
        """Look at the queue of a replica.

        Args:
            replica: Where the requests wait.
            free_blocks: KV blocks that admissions may take.
            limit: Longest known sequence that is admitted, tokens.
            reserved_blocks: Blocks that every admission takes; None: those of its known tokens.
            preempted: Requests preempted in the same call, in that order: they wait at the head.
        """
        self.replica = replica
        self.ignored: list[int] = []
        self.exhausted = False
        self._free_blocks = free_blocks
        self._limit = limit
        self._reserved_blocks = reserved_blocks
        self._preempted = preempted

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield request, known tokens and KV blocks of each head."""
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
    """Return a batch of all decodes; with nothing else in it, it stands."""
    batch = Batch(decodes.num_requests, decodes.context_tokens)
    batch.repeats = True
    return batch


def decodes_that_fit(replica: Replica) -> Batch:
    """Give every decode a KV slot for its next token, preempting the latest arrivals while no block is free.

    A request is preempted when no block is free even if the one that asks has room in its last block,
    as the real engines do. With more free blocks than needed this can happen to nobody, and the totals
    of the decode set are the answer.

    Returns:
        A batch of the decodes that got a slot, and of the requests that are preempted for them.
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
            free_blocks += replica.blocks_held(victim)
        if len(candidates) < position:
            break
        free_blocks -= decodes.needs_block(request)
        num_decodes += 1
        context_tokens += decodes.context_of(request)
    batch = Batch(num_decodes, context_tokens)
    batch.preempted = preempted
    return batch


def free_blocks_after(replica: Replica, batch: Batch) -> int:
    """KV blocks that nobody holds once the preemptions and decodes of a batch have happened."""
    decodes = replica.decoding
    free_blocks = replica.free_blocks - decodes.num_new_blocks
    for request in batch.preempted:
        free_blocks += replica.blocks_held(request)
        free_blocks += request in decodes and decodes.needs_block(request)
    return free_blocks


def whole_prompts(
    admissions: Admissions, max_num_seqs: int, max_tokens: float = inf, batch: Batch | None = None
) -> Batch:
    """Add whole prompts to a batch, in the queue's order, up to the caps.

    Args:
        admissions: Heads that pass the tests of length and memory.
        max_num_seqs: Running requests at most.
        max_tokens: Prompt tokens at most.
        batch: What the prompts are added to; None: a new batch.
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
    """Heads of the queue for a policy that reserves max_model_len tokens for each, without a watermark."""
    return Admissions(
        replica,
        free_blocks=replica.free_blocks,
        limit=replica.max_model_len,
        reserved_blocks=replica.blocks_for(replica.max_model_len),
    )
