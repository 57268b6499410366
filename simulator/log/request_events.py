"""What happened to the requests of a replica."""

from dataclasses import dataclass, field

# A request's stay in a decode set, as (request, index of the set, joined, left): it emitted one token in
# each of the set's iterations in (joined, left].
DecodeSpan = tuple[int, int, int, int]


@dataclass(slots=True)
class RequestEvents:
    """What happened to requests, by batch number. The n-th batch that a replica starts ends n-th.

    Attributes:
        admissions: (request, batch, tokens found in the prefix cache, KV blocks of these that others hold) of each
            move from waiting to running.
        prefill_ends: (request, batch) of each batch that completed a prefill and so emitted a token.
        finishes: (request, batch) of each last token.
        decode_spans: Stays of requests in decode sets.
        preemptions: (request, number of the next batch to start).
        evictions: (KV blocks that lost what they held, number of the next batch to start).
        ignored: Requests refused because they are too long.
        discards: (requests whose tokens so far do not count, prefill ends and decode_spans until then).
    """

    admissions: list[tuple[int, int, int, int]] = field(default_factory=list)
    prefill_ends: list[tuple[int, int]] = field(default_factory=list)
    finishes: list[tuple[int, int]] = field(default_factory=list)
    decode_spans: list[DecodeSpan] = field(default_factory=list)
    preemptions: list[tuple[int, int]] = field(default_factory=list)
    evictions: list[tuple[int, int]] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)
    discards: list[tuple[list[int], int, int]] = field(default_factory=list)

    def discard(self, requests: list[int]) -> None:
        """Let the tokens that some requests have emitted here so far not count."""
        self.discards.append((requests, len(self.prefill_ends), len(self.decode_spans)))
