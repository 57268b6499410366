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

# Of each member of a batch: request, tokens, and whether they are prompt tokens.
Members = list[tuple[int, int, bool]]

_VALUES_PER_PART = 1 << 14


class IterationLog:
    """One row per iteration, in the order in which the scheduler formed them.

    Iterations are logged in runs: the first one of a run follows a decision, the others repeat it, so that
    only when they end and how many KV blocks are free is not known from the first.

    Attributes:
        times: end_s and free_blocks of the latest iterations, flat. The engine extends it.
    """

    def __init__(self, with_members: bool = False) -> None:
        self.times: list[float] = []
        # Of each run: the members of its batches, if asked for, since it costs time for each member.
        self._members: list[Members] | None = [] if with_members else None
        # Of each run: index of its first iteration, schedule_s, start_s, num_prefill_tokens, num_decodes,
        # context_tokens of its first iteration, decode_set.
        self._runs: list[float] = []
        self._packed_times: list[bytes] = []
        self._packed_runs: list[bytes] = []
        self._num_packed = 0

    def begin_run(self, replica: Replica, batch: Batch, schedule_s: float, start_s: float) -> None:
        """Log a batch that has just been put in flight; its times, and those of its repetitions, follow."""
        decodes = replica.in_flight[-1][1]
        self._runs.extend(
            (
                self._num_packed + len(self.times) // 2,
                schedule_s,
                start_s,
                batch.num_prefill_tokens,
                batch.num_decodes,
                batch.prefill_context_tokens + batch.decode_context_tokens,
                NO_DECODE_SET if decodes is None else decodes.index,
            )
        )
        if self._members is not None:
            self._members.append(_members_of(replica, batch))

    def compact(self, num_values: int = _VALUES_PER_PART) -> None:
        """Pack what has been logged, a quarter of the memory, if it is more than `num_values`."""
        if len(self.times) > num_values:
            self._num_packed += len(self.times) // 2
            self._packed_times.append(_pack(self.times))
            self._packed_runs.append(_pack(self._runs))

    def members(self) -> list[Members] | None:
        """Return the members of each batch in its own order; None if they were not asked for."""
        if self._members is None:
            return None
        _, lengths = self._runs_and_lengths()
        return [members for members, length in zip(self._members, lengths, strict=True) for _ in range(length)]

    def to_arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Return the rows, float64[num_iterations] or int64[num_iterations] by column."""
        runs, lengths = self._runs_and_lengths()
        times = np.frombuffer(b"".join(self._packed_times)).reshape(-1, 2)
        end_s, free_blocks = times[:, 0].copy(), times[:, 1].astype(np.int64)
        first = runs[:, 0].astype(np.int64)
        prefill, decodes, context, decode_set = (
            np.repeat(column, lengths) for column in runs[:, 3:].astype(np.int64).T
        )
        # A repetition starts when the iteration before it ends, with one token more for each one computed.
        start_s = np.roll(end_s, 1)
        schedule_s = start_s.copy()
        schedule_s[first], start_s[first] = runs[:, 1], runs[:, 2]
        position = np.arange(len(end_s)) - np.repeat(first, lengths)
        context += position * (prefill + decodes)
        columns = (schedule_s, start_s, end_s, prefill, decodes, context, free_blocks, decode_set)
        return dict(zip(COLUMNS, columns, strict=True))

    def _runs_and_lengths(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        self.compact(0)
        runs = np.frombuffer(b"".join(self._packed_runs)).reshape(-1, 7)
        return runs, np.diff(runs[:, 0], append=self._num_packed).astype(np.int64)


def _pack(values: list[float]) -> bytes:
    packed = struct.pack(f"{len(values)}d", *values)
    values.clear()
    return packed


def _members_of(replica: Replica, batch: Batch) -> Members:
    """Prefills in the order added, then decodes by arrival."""
    rows = [(chunk.request, chunk.num_tokens, True) for chunk in batch.chunks]
    decodes = replica.in_flight[-1][1]
    if decodes is not None:
        rows += [(request, 1, False) for request in replica.by_arrival() if request in decodes]
    return rows
