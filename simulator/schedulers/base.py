"""Protocol of a scheduling policy, and steps that several policies share.

The steps are those of sarathi-serve's schedulers (Agrawal et al., OSDI 2024).
"""

from math import inf
from typing import NamedTuple, Protocol

from simulator.replica import Batch, Limits, Replica


class Scheduler(Protocol):
    """A scheduling policy.

    It decides in one pass over a replica, in the order of the real engine. It keeps nothing between calls, and changes
    nothing but by the verbs of the replica.
    """

    @property
    def limits(self) -> Limits:
        """What the engine needs to know of the policy."""
        ...

    def schedule(self, replica: Replica) -> Batch | None:
        """Decide the next iteration by the verbs of the replica.

        Returns:
            `replica.step`, the batch that the verbs formed; None if nothing can be done until a request arrives or a
            batch in flight ends. After a batch without tokens (it only preempts or ignores requests), the policy is
            called again at once.
        """
        ...


class LostPrefill(NamedTuple):
    """Prefill progress of a request when it was preempted.

    Attributes:
        computed_tokens: Tokens that were computed.
        left_tokens: Tokens that were left to compute; 0: the prefill was complete.
    """

    computed_tokens: int
    left_tokens: int


def next_admissible(replica: Replica, longest: int) -> int | None:
    """Return the head of the queue if it fits in memory.

    No request behind it is tested. A head with more than `longest` known tokens is ignored, and the next one is tested.

    Returns:
        The head; None: it does not fit, or no request waits.
    """
    known_tokens, waiting = replica.requests.known_tokens, replica.waiting
    while waiting:
        request = waiting[0]
        num_tokens = known_tokens[request]
        if num_tokens <= longest:
            return request if replica.blocks_to_admit(num_tokens) <= replica.kv.free_blocks else None
        replica.ignore(request)
    return None


def admit_whole_prompts(replica: Replica, max_num_seqs: int, longest: int, max_tokens: float = inf) -> None:
    """Admit waiting requests with their whole prompts, in queue order.

    Args:
        replica: Where they wait.
        max_num_seqs: Maximum running requests.
        longest: Longest prompt that is admitted, tokens.
        max_tokens: Maximum prompt tokens of the batch.
    """
    batch, known_tokens = replica.step, replica.requests.known_tokens
    while (request := next_admissible(replica, longest)) is not None:
        num_tokens = known_tokens[request]
        if batch.num_prefill_tokens + num_tokens > max_tokens or len(replica.running) >= max_num_seqs:
            break
        replica.admit(request, num_tokens)
    batch.until_arrival = not replica.waiting


def schedule_decodes(replica: Replica) -> dict[int, LostPrefill]:
    """Schedule all decodes that fit, preempting the latest arrivals.

    A request is preempted when no block is free, even if the decode that is next in line still has room
    in its last block, as in the real engines. With more free blocks than the decodes need, no request
    is preempted, and the same decodes are scheduled again until something changes.

    Returns:
        Preempted requests, in order of preemption.
    """
    decodes, kv = replica.in_flight.decoding, replica.kv
    if kv.free_blocks > decodes.num_new_blocks or not decodes.num_requests:
        replica.allocate_all()
        replica.step.repeats = True
        return {}
    preempted: dict[int, LostPrefill] = {}
    candidates = replica.by_arrival()
    position = 0
    while position < len(candidates):
        request = candidates[position]
        position += 1
        if request not in decodes:
            continue
        while kv.free_blocks == 0 and len(candidates) >= position:
            victim = candidates.pop()
            computed = replica.computed_tokens(victim)
            preempted[victim] = LostPrefill(computed, replica.requests.known_tokens[victim] - computed)
            replica.preempt(victim)
        if len(candidates) < position:
            break
        replica.allocate(request)
    return preempted
