"""What each iteration of a replica computed and when."""

import struct
from collections.abc import Callable, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

NO_DECODE_SET = -1
# Logged columns of each run of iterations, see `LoggedIterations`.
RUN_COLUMNS = (
    "first",
    "schedule_s",
    "start_s",
    "num_prefills",
    "num_prefill_tokens",
    "num_decodes",
    "prefill_context_tokens",
    "decode_context_tokens",
    "decode_set",
)

_START = RUN_COLUMNS.index("start_s")

_VALUES_PER_PART = 1 << 14


Columns = dict[str, NDArray[Any]]
# Members of a batch: (request, tokens, whether they are prompt tokens).
Members = list[tuple[int, int, bool]]


class LoggedBatch(Protocol):
    """The part of a batch that the log reads; see `simulator.replica.Batch`."""

    @property
    def chunks(self) -> Sized:
        """Its prefill chunks."""
        ...

    num_prefill_tokens: int
    num_decodes: int
    prefill_context_tokens: int
    decode_context_tokens: int


class LoggedDecodes(Protocol):
    """The part of a decode set that the log reads; see `simulator.replica.DecodeSet`."""

    index: int


@dataclass(frozen=True)
class LoggedIterations:
    """The iterations of a replica in order, as stored and saved.

    Attributes:
        end_s: float64[num_iterations], seconds.
        free_blocks: int32[num_iterations], free KV blocks.
        runs: float64[num_runs, 9], RUN_COLUMNS of the first iteration of each run: its number, when it was scheduled,
            when the first stage began, prefills and their tokens, decodes, context tokens of both, and the decode set.
        lone_preemptions: float64[k, 2], (number, time in seconds) of the replica's preemptions that were decided
            without forming a batch.
        stage_spans: float64[num_iterations, num_stages, 2], start and end of compute in each pipeline stage, seconds;
            None: not logged.
    """

    end_s: NDArray[np.float64]
    free_blocks: NDArray[np.int32]
    runs: NDArray[np.float64]
    lone_preemptions: NDArray[np.float64]
    stage_spans: NDArray[np.float64] | None = None

    @property
    def run_lengths(self) -> NDArray[np.int64]:
        """Iterations of each run."""
        return np.diff(self.runs[:, 0], append=len(self.end_s)).astype(np.int64)

    @cached_property
    def columns(self) -> Columns:
        """The columns of `ReplicaResult.iterations`, float64 or int64[num_iterations]."""
        lengths, end_s = self.run_lengths, self.end_s
        runs = dict(zip(RUN_COLUMNS, self.runs.T, strict=True))
        first = runs.pop("first").astype(np.int64)
        # A repeat starts when the iteration before it ends, with one more context token for each token computed.
        start_s = np.roll(end_s, 1)
        schedule_s = start_s.copy()
        schedule_s[first], start_s[first] = runs.pop("schedule_s"), runs.pop("start_s")
        counts = {name: np.repeat(column.astype(np.int64), lengths) for name, column in runs.items()}
        position = np.arange(len(end_s)) - np.repeat(first, lengths)
        counts["prefill_context_tokens"] += position * counts["num_prefill_tokens"]
        counts["decode_context_tokens"] += position * counts["num_decodes"]
        return {
            "schedule_s": schedule_s,
            "start_s": start_s,
            "end_s": end_s,
            **counts,
            "context_tokens": counts["prefill_context_tokens"] + counts["decode_context_tokens"],
            "free_blocks": self.free_blocks.astype(np.int64),
        }


class IterationLog:
    """Iterations in the order in which the scheduler formed them.

    Iterations are logged in runs: the first iteration of a run follows a decision, the others repeat it. Only
    the end times and free KV blocks of repeats do not follow from the first iteration.

    Attributes:
        times: end_s and free_blocks of the latest iterations, flat. The engine extends it.
        spans: Start and end of the latest iterations in each pipeline stage, flat; None: not logged.
    """

    def __init__(self, with_members: bool = False, num_stages_with_spans: int = 0) -> None:
        """Start empty.

        Args:
            with_members: Whether to log the members of each batch.
            num_stages_with_spans: Number of pipeline stages whose compute times are logged; 0: none are.
        """
        self.times: list[float] = []
        self.spans: list[float] | None = [] if num_stages_with_spans else None
        self._num_stages = num_stages_with_spans
        # Members of the batches of each run. Optional, because it costs time per member.
        self._members: list[Members] | None = [] if with_members else None
        self._lone_preemptions: list[tuple[int, float]] = []
        self._runs: list[float] = []  # RUN_COLUMNS, flat
        self._packed_times: list[bytes] = []
        self._packed_spans: list[bytes] = []
        self._packed_runs: list[bytes] = []
        self._num_packed = 0

    def begin_run(
        self,
        batch: LoggedBatch,
        decodes: LoggedDecodes | None,
        schedule_s: float,
        start_s: float,
        members: Callable[[], Members],
    ) -> None:
        """Log a batch just put in flight.

        Its end times, and those of its repeats, follow.

        Args:
            batch: The batch.
            decodes: Its decode set; None: it has no decodes.
            schedule_s: When it was scheduled.
            start_s: When it starts in the first stage.
            members: Returns its members; called only if they are logged.
        """
        self._runs.extend(
            (
                self._num_packed + len(self.times) // 2,
                schedule_s,
                start_s,
                len(batch.chunks),
                batch.num_prefill_tokens,
                batch.num_decodes,
                batch.prefill_context_tokens,
                batch.decode_context_tokens,
                NO_DECODE_SET if decodes is None else decodes.index,
            )
        )
        if self._members is not None:
            self._members.append(members())

    def last_end_s(self, now_s: float) -> float | None:
        """Return the end of the last completed iteration; None: unknown."""
        times = self.times
        return next((times[index] for index in range(len(times) - 2, -1, -2) if times[index] <= now_s), None)

    def log_lone_preemptions(self, preemptions: range, now_s: float) -> None:
        """Log that preemptions, by number, were decided now without forming a batch."""
        self._lone_preemptions += [(number, now_s) for number in preemptions]

    def cut_off(self, now_s: float, num_iterations: int) -> None:
        """Cut the latest iterations off at `now_s`.

        Those that would start later take no time.
        """
        if len(self.times) < 2 * num_iterations:
            self._restore_latest()
        width, times, runs = len(RUN_COLUMNS), self.times, self._runs
        for index in range(len(times) - 2 * num_iterations, len(times), 2):
            times[index] = min(times[index], now_s)
        for index in range(max(0, len(runs) - width * num_iterations), len(runs), width):
            runs[index + _START] = min(runs[index + _START], now_s)
        if self.spans is not None:
            first = len(self.spans) - 2 * self._num_stages * num_iterations
            self.spans[first:] = [min(time_s, now_s) for time_s in self.spans[first:]]

    def compact(self, num_values: int = _VALUES_PER_PART) -> None:
        """Pack the log into a quarter of the memory.

        If `times` has at most `num_values` values, do nothing.
        """
        if len(self.times) > num_values:
            self._num_packed += len(self.times) // 2
            self._packed_times.append(_pack(self.times))
            self._packed_runs.append(_pack(self._runs))
            if self.spans is not None:
                self._packed_spans.append(_pack(self.spans))

    def _restore_latest(self) -> None:
        """Unpack the part that was packed last."""
        if self._packed_times:
            self.times[:0] = _unpack(self._packed_times.pop())
            self._runs[:0] = _unpack(self._packed_runs.pop())
            self._num_packed = sum(map(len, self._packed_times)) // (2 * 8)
            if self.spans is not None:
                self.spans[:0] = _unpack(self._packed_spans.pop())

    def members(self) -> list[Members] | None:
        """Return the members of each batch in batch order; None: not logged."""
        if self._members is None:
            return None
        lengths = self.logged().run_lengths.tolist()
        return [members for members, length in zip(self._members, lengths, strict=True) for _ in range(length)]

    def logged(self) -> LoggedIterations:
        """Return the iterations logged so far."""
        self.compact(0)
        times = np.frombuffer(b"".join(self._packed_times)).reshape(-1, 2)
        runs = np.frombuffer(b"".join(self._packed_runs)).reshape(-1, len(RUN_COLUMNS))
        spans = None
        if self.spans is not None:
            spans = np.frombuffer(b"".join(self._packed_spans)).reshape(-1, self._num_stages, 2)
        lone = np.array(self._lone_preemptions, dtype=np.float64).reshape(-1, 2)
        return LoggedIterations(times[:, 0].copy(), times[:, 1].astype(np.int32), runs, lone, spans)


def _pack(values: list[float]) -> bytes:
    packed = struct.pack(f"{len(values)}d", *values)
    values.clear()
    return packed


def _unpack(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"{len(packed) // 8}d", packed)
