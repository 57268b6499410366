"""Why the requests left at a replica are never served."""

from dataclasses import dataclass

from simulator.engine.base import ReplicaRun


@dataclass(frozen=True)
class StuckReason:
    """The reason why the head of a queue is never admitted.

    Attributes:
        request: The head.
        num_tokens: Its known tokens.
        num_behind: Requests that wait behind it.
        num_blocks: KV blocks of the replica.
        blocks_needed: KV blocks that it needs; None: the replica has enough, but the policy never admits it.
        policy: Name of the policy.
    """

    request: int
    num_tokens: int
    num_behind: int
    num_blocks: int
    blocks_needed: int | None
    policy: str

    def text(self, request_id: object) -> str:
        """Return a sentence for users that names the request `request_id`."""
        behind = f"{self.num_behind} {'request waits' if self.num_behind == 1 else 'requests wait'} behind it."
        if self.blocks_needed is not None:
            return (
                f"Request {request_id} ({self.num_tokens} tokens) needs {self.blocks_needed} free KV blocks and the "
                f"replica has {self.num_blocks} in all; {behind}"
            )
        return (
            f"Request {request_id} ({self.num_tokens} tokens) waits at the head of the queue and "
            f"{self.policy} never admits it with these settings; {behind}"
        )


def stuck_reason(run: ReplicaRun) -> StuckReason | None:
    """Return why the requests left at a replica are stuck.

    Returns None if none are left or the time limit was reached.
    """
    replica = run.replica
    left = [*replica.running, *replica.waiting]
    if run.cut_off or not left:
        return None
    policy, num_behind = type(run.scheduler).__name__, len(left) - 1
    for request in left[: len(replica.running) + 1]:
        num_tokens = replica.known_tokens(request)
        needed = max(replica.blocks_to_admit(num_tokens), replica.blocks_for(num_tokens))
        if needed > replica.num_blocks:
            return StuckReason(request, num_tokens, num_behind, replica.num_blocks, needed, policy)
    return StuckReason(left[0], replica.known_tokens(left[0]), num_behind, replica.num_blocks, None, policy)
