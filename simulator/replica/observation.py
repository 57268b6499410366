"""What logs and results read from a replica."""

import numpy as np
from numpy.typing import NDArray

from simulator.log import Members
from simulator.replica.replica import Replica


def cached_tokens(replica: Replica) -> int:
    """Return the tokens of running requests in the KV cache."""
    num_tokens = sum([replica.scheduled_tokens(request) for request in replica.running])
    for batch in replica.in_flight.batches:
        num_tokens -= len(batch.live_decodes()) + sum([chunk.num_tokens for chunk in batch.live_chunks()])
    return num_tokens


def decode_spans(replica: Replica) -> NDArray[np.int64]:
    """Return all decode spans so far, open ones included: int64[n, 4]."""
    spans = [span for decodes in replica.in_flight.sets() for span in decodes.open_decode_spans()]
    return np.concatenate([replica.request_events.decode_spans.rows(), np.array(spans, np.int64).reshape(-1, 4)])


def batch_members(replica: Replica) -> Members:
    """Return the members of the batch started last, in batch order.

    Each is (request, tokens, whether they are prompt tokens). In the order of the running requests, a chunk that only
    recomputes the last token before a preemption has no prompt tokens.
    """
    batch = replica.in_flight.batches[-1]
    decodes = dict.fromkeys(batch.live_decodes())
    if replica.limits.batch_order == "prefills_first":
        rows = [(chunk.request, chunk.num_tokens, True) for chunk in batch.chunks]
        return rows + [(request, 1, False) for request in replica.by_arrival() if request in decodes]
    known, prompts = replica.requests.known_tokens, replica.requests.prompt_tokens
    tokens = {request: (request, 1, False) for request in decodes}
    for chunk in batch.chunks:
        prompt_end = max(prompts[chunk.request], known[chunk.request] - 1)
        tokens[chunk.request] = chunk.request, chunk.num_tokens, chunk.context_tokens < prompt_end
    return [tokens[request] for request in replica.running if request in tokens]
