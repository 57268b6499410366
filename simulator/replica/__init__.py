"""One replica of the model: queue, running requests, KV blocks and batches."""

from simulator.replica.batch import Batch, PrefillChunk
from simulator.replica.caching import CachingReplica
from simulator.replica.decode_set import DecodeSet
from simulator.replica.overlapping import OverlappingReplica
from simulator.replica.replica import Replica
from simulator.replica.requests import RequestTable

__all__ = [
    "Batch",
    "CachingReplica",
    "DecodeSet",
    "OverlappingReplica",
    "PrefillChunk",
    "Replica",
    "RequestTable",
]
