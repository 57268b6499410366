"""What each iteration of a replica computed and when."""

import struct

import numpy as np
from numpy.typing import NDArray

from simulator.batch import Batch
from simulator.replica import Replica

COLUMNS = (
    "schedule_s",
    "start_s",
    "end_s",
    "num_prefill_tokens",
    "num_decodes",
    "context_tokens",
    "free_blocks",
    "decode_set",
)
NO_DECODE_SET = -1

_VALUES_PER_PART = len(COLUMNS) << 10


class IterationLog:
    """One row per iteration, in the order in which the scheduler formed them.

    Attributes:
        tail: Values of the latest rows, flat. The engine extends it by the values of `COLUMNS`.
        members: For each iteration (request, tokens, whether they are prompt tokens) of each member in
            the batch's own order; None unless asked for, since it costs time for each member.
    """

    def __init__(self, with_members: bool = False) -> None:
        self.tail: list[float] = []
        self.members: list[list[tuple[int, int, bool]]] | None = [] if with_members else None
        self._parts: list[NDArray[np.float64]] = []

    def to_array(self) -> NDArray[np.float64]:
        """Return all rows: float64[num_iterations, len(COLUMNS)]."""
        self.compact(0)
        return np.concatenate(self._parts)

    def compact(self, tail_values: int = _VALUES_PER_PART) -> None:
        """Move the tail into arrays, which take a quarter of the memory, once it is longer than `tail_values`."""
        if len(self.tail) > tail_values or not self._parts:
            packed = struct.pack(f"{len(self.tail)}d", *self.tail)  # half the time of np.fromiter
            self._parts.append(np.frombuffer(packed).reshape(-1, len(COLUMNS)))
            self.tail.clear()


def members_of(replica: Replica, batch: Batch) -> list[tuple[int, int, bool]]:
    """Prefills in the order added, then decodes by arrival."""
    rows = [(chunk.request, chunk.num_tokens, True) for chunk in batch.chunks]
    decodes = replica.in_flight[-1][1]
    if decodes is not None:
        rows += [(request, 1, False) for request in replica.by_arrival() if request in decodes]
    return rows
