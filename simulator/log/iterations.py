"""What each iteration of a replica computed and when."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.log.flat_arrays import doubled, zeros

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

_WIDTH = len(RUN_COLUMNS)
_FIRST_SIZE = 1 << 10
_START = RUN_COLUMNS.index("start_s")

# Members of a batch: (request, tokens, whether they are prompt tokens).
Members = list[tuple[int, int, bool]]


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

    @property
    def columns(self) -> "IterationColumns":
        """The columns of `ReplicaResult.iterations`."""
        return IterationColumns(self)


# Context tokens grow with each repeat by the tokens computed.
_GROWTH = {"prefill_context_tokens": "num_prefill_tokens", "decode_context_tokens": "num_decodes"}


class IterationColumns(Mapping[str, NDArray[Any]]):
    """Columns by name, each computed when it is asked for.

    float64 or int64[num_iterations].
    """

    def __init__(self, logged: LoggedIterations) -> None:
        self._logged = logged

    def __iter__(self) -> Iterator[str]:
        yield from ("schedule_s", "start_s", "end_s", *RUN_COLUMNS[_START + 1 :], "context_tokens", "free_blocks")

    def __len__(self) -> int:
        return len([*self])

    def __getitem__(self, name: str) -> NDArray[Any]:
        logged = self._logged
        if name == "end_s":
            return logged.end_s
        if name == "free_blocks":
            return logged.free_blocks.astype(np.int64)
        if name == "context_tokens":
            return np.asarray(self["prefill_context_tokens"] + self["decode_context_tokens"])
        first, of_runs = logged.runs[:, 0].astype(np.int64), logged.runs[:, RUN_COLUMNS.index(name)]
        if name in ("schedule_s", "start_s"):  # a repeat starts when the iteration before it ends
            times = np.roll(logged.end_s, 1)
            times[first] = of_runs
            return times
        lengths = logged.run_lengths
        column = np.repeat(of_runs.astype(np.int64), lengths)
        if name in _GROWTH:
            column += (np.arange(len(column)) - np.repeat(first, lengths)) * self[_GROWTH[name]]
        return column


class IterationLog:
    """Iterations in the order in which the scheduler formed them.

    Iterations are logged in runs: the first iteration of a run follows a decision, the others repeat it. Only
    the end times and free KV blocks of repeats do not follow from the first iteration.

    Attributes:
        num_iterations: Iterations so far.
        num_runs: Runs so far.
        spans: Start and end of each iteration in each pipeline stage, flat; None: not logged.
    """

    def __init__(self, with_members: bool = False, num_stages_with_spans: int = 0) -> None:
        """Start empty.

        Args:
            with_members: Whether to log the members of each batch.
            num_stages_with_spans: Number of pipeline stages whose compute times are logged; 0: none are.
        """
        self.num_iterations = 0
        self.spans: array[float] | None = array("d") if num_stages_with_spans else None
        self._num_stages = num_stages_with_spans
        # Members of the batches of each run. Optional, because it costs time per member.
        self._members: list[Members] | None = [] if with_members else None
        self._lone_preemptions: list[tuple[int, float]] = []
        # Flat and longer than their contents: end_s and free_blocks of each iteration, RUN_COLUMNS of each run.
        self._times = zeros(2 * _FIRST_SIZE)
        self._runs = zeros(_WIDTH * _FIRST_SIZE)
        self.num_runs = 0

    def begin_run(
        self,
        schedule_s: float,
        start_s: float,
        num_prefills: int,
        num_prefill_tokens: int,
        num_decodes: int,
        prefill_context_tokens: int,
        decode_context_tokens: int,
        decode_set: int,
    ) -> None:
        """Log a batch just put in flight, in the order of `RUN_COLUMNS`.

        Its end times, and those of its repeats, follow.
        """
        first = self.num_runs * _WIDTH
        if first == len(self._runs):
            self._runs = doubled(self._runs)
        runs = self._runs
        runs[first] = self.num_iterations
        runs[first + 1] = schedule_s
        runs[first + 2] = start_s
        runs[first + 3] = num_prefills
        runs[first + 4] = num_prefill_tokens
        runs[first + 5] = num_decodes
        runs[first + 6] = prefill_context_tokens
        runs[first + 7] = decode_context_tokens
        runs[first + 8] = decode_set
        self.num_runs += 1

    def add(self, end_s: float, free_blocks: int) -> None:
        """Log the end and the free KV blocks of an iteration."""
        first = 2 * self.num_iterations
        if first == len(self._times):
            self._times = doubled(self._times)
        self._times[first] = end_s
        self._times[first + 1] = free_blocks
        self.num_iterations += 1

    @property
    def logs_members(self) -> bool:
        """Whether the members of each batch are logged."""
        return self._members is not None

    def log_members(self, members: Members) -> None:
        """Log the members of the batch of the latest run."""
        assert self._members is not None
        self._members.append(members)

    def last_end_s(self, now_s: float) -> float | None:
        """Return the end of the last completed iteration; None: unknown."""
        times = self._times
        for index in range(2 * self.num_iterations - 2, -1, -2):
            if times[index] <= now_s:
                return times[index]
        return None

    def log_lone_preemptions(self, preemptions: range, now_s: float) -> None:
        """Log that preemptions, by number, were decided now without forming a batch."""
        self._lone_preemptions += [(number, now_s) for number in preemptions]

    def cut_off(self, now_s: float, num_iterations: int) -> None:
        """Cut the latest iterations off at `now_s`.

        Those that would start later take no time.
        """
        end, num_runs = 2 * self.num_iterations, self.num_runs
        for index in range(end - 2 * num_iterations, end, 2):
            self._times[index] = min(self._times[index], now_s)
        for run in range(max(0, num_runs - num_iterations), num_runs):
            self._runs[run * _WIDTH + _START] = min(self._runs[run * _WIDTH + _START], now_s)
        if self.spans is not None:
            first = len(self.spans) - 2 * self._num_stages * num_iterations
            self.spans[first:] = array("d", [min(time_s, now_s) for time_s in self.spans[first:]])

    def members(self) -> list[Members] | None:
        """Return the members of each batch in batch order; None: not logged."""
        if self._members is None:
            return None
        lengths = self.logged().run_lengths.tolist()
        return [members for members, length in zip(self._members, lengths, strict=True) for _ in range(length)]

    def logged(self) -> LoggedIterations:
        """Return the iterations logged so far."""
        times = np.asarray(self._times)[: 2 * self.num_iterations].reshape(-1, 2)
        runs = np.asarray(self._runs)[: _WIDTH * self.num_runs].reshape(-1, _WIDTH)
        spans = None if self.spans is None else np.array(self.spans).reshape(-1, self._num_stages, 2)
        lone = np.array(self._lone_preemptions, dtype=np.float64).reshape(-1, 2)
        return LoggedIterations(times[:, 0].copy(), times[:, 1].astype(np.int32), runs.copy(), lone, spans)
