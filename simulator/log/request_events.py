"""Events of the requests of a replica."""

from simulator.log.int_rows import IntRows

# Decode span of a request in a decode set, as (request, index of the set, joined, left): the request emitted
# one token in each of the set's iterations in (joined, left].
DecodeSpan = tuple[int, int, int, int]


class RequestEvents:
    """Events of requests, by batch number.

    A replica's batches end in the order in which they start.

    Attributes:
        admissions: (request, batch, cached tokens, cached KV blocks that other requests reference, known tokens) of
            each move from waiting to running.
        prefill_ends: (request, batch) of each batch that completed a prefill and so emitted a token.
        finishes: (request, batch) of each last token.
        decode_spans: Decode spans of requests, see `DecodeSpan`.
        preemptions: (request, number of the next batch to start).
        evictions: (number of cached KV blocks evicted, number of the next batch to start).
        ignored: Requests refused because they are too long.
    """

    __slots__ = ("admissions", "decode_spans", "evictions", "finishes", "ignored", "preemptions", "prefill_ends")

    def __init__(self) -> None:
        self.admissions = IntRows(5)
        self.prefill_ends = IntRows(2)
        self.finishes = IntRows(2)
        self.decode_spans = IntRows(4)
        self.preemptions = IntRows(2)
        self.evictions = IntRows(2)
        self.ignored: list[int] = []
