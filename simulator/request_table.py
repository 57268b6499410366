"""The requests of a run, as the replicas see them."""

from dataclasses import dataclass


@dataclass(slots=True)
class RequestTable:
    """The requests of a run, shared by its replicas. One list entry per request.

    Attributes:
        arrival_s: Arrival time; NaN: waits for the end of another request.
        prefill_tokens: Tokens to compute before the next token can be emitted: the prompt and, after
            a preemption, every token emitted so far.
        total_tokens: Prompt and output. Policies may not read it: a real scheduler cannot know it.
    """

    arrival_s: list[float]
    prefill_tokens: list[int]
    total_tokens: list[int]
