"""One replica of the model: requests, KV blocks and batches."""

from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.decode_set import DecodeSet
from simulator.replica.errors import PolicyError
from simulator.replica.in_flight import InFlight
from simulator.replica.limits import Limits
from simulator.replica.observation import batch_members, cached_tokens, decode_spans
from simulator.replica.replica import Replica
from simulator.replica.requests import Lengths, RequestTable

__all__ = [
    "Batch",
    "DecodeSet",
    "InFlight",
    "Lengths",
    "Limits",
    "PolicyError",
    "PrefillChunk",
    "Replica",
    "RequestTable",
    "batch_members",
    "cached_tokens",
    "decode_spans",
]
