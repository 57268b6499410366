"""Figures of one run: load, CPU time and latencies."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from profiling.front_end.client import Answer, Load
from profiling.front_end.cpu_time import CpuTime
from profiling.front_end.streams import Record, Stream


@dataclass(frozen=True)
class Latency:
    """Mean and median of a latency in seconds."""

    mean_s: float
    p50_s: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Summarize measurements; nan if there are none."""
        if not seconds:
            return cls(float("nan"), float("nan"))
        return cls(statistics.fmean(seconds), statistics.median(seconds))


@dataclass(frozen=True)
class Window:
    """The measured part of a run.

    Attributes:
        start_s: Its start.
        end_s: Its end.
        cpu: CPU time that the server spent in it.
    """

    start_s: float
    end_s: float
    cpu: CpuTime

    def holds(self, time_s: float) -> bool:
        """Whether a time lies in the window."""
        return self.start_s <= time_s < self.end_s


@dataclass(frozen=True)
class RunSummary:
    """What a run measured.

    Attributes:
        rate: Requests per second.
        output_tokens: Tokens of each answer.
        seconds: Length of the measurement; the counts and CPU times are those within it.
        num_requests: Requests sent.
        num_steps: Messages of the engine with tokens.
        num_tokens: Tokens in them.
        prompt_tokens: Mean tokens of a prompt.
        cpu: CPU time of the server.
        before_engine: From sending a request until the engine has it.
        delivery: From the engine's message with a token until the client has the token.
        num_merged: Answers that arrived in fewer events than tokens, which `delivery` leaves out.
    """

    rate: float
    output_tokens: int
    seconds: float
    num_requests: int
    num_steps: int
    num_tokens: int
    prompt_tokens: float
    cpu: CpuTime
    before_engine: Latency
    delivery: Latency
    num_merged: int

    @property
    def streams(self) -> float:
        """Mean number of tokens in a step."""
        return self.num_tokens / max(1, self.num_steps)

    @property
    def loop_share(self) -> float:
        """Share of the time in which the event loop computed."""
        return self.cpu.loop_s / self.seconds


def summarize(load: Load, answers: Sequence[Answer], window: Window, record: Record) -> RunSummary:
    """Compute the figures of a run.

    Args:
        load: Its load.
        answers: What the client saw.
        window: The measured part.
        record: What the engine saw, of all runs.
    """
    streams = {stream.name: stream for stream in record.streams}
    pairs = [(answer, streams[answer.name]) for answer in answers if window.holds(answer.sent_s)]
    steps = [count for sent_s, count in zip(record.sent_s, record.num_tokens, strict=True) if window.holds(sent_s)]
    delays = [delay for answer, stream in pairs for delay in _delays(answer, stream, window, record)]
    return RunSummary(
        rate=load.rate,
        output_tokens=load.output_tokens,
        seconds=window.end_s - window.start_s,
        num_requests=len(pairs),
        num_steps=len(steps),
        num_tokens=sum(steps),
        prompt_tokens=statistics.fmean(stream.prompt_tokens for _, stream in pairs),
        cpu=window.cpu,
        before_engine=Latency.of([stream.arrival_s - answer.sent_s for answer, stream in pairs]),
        delivery=Latency.of(delays),
        num_merged=sum(_is_merged(answer, stream) for answer, stream in pairs),
    )


def _is_merged(answer: Answer, stream: Stream) -> bool:
    """Whether events of an answer held several tokens: the server was behind."""
    return len(answer.chunk_s) < stream.num_emitted + 1  # the last event holds the usage


def _delays(answer: Answer, stream: Stream, window: Window, record: Record) -> list[float]:
    """Return the delivery times of tokens sent in the window."""
    if stream.first_step is None or _is_merged(answer, stream):
        return []
    sent = record.sent_s[stream.first_step : stream.first_step + stream.num_emitted]
    pairs = zip(answer.chunk_s[:-1], sent, strict=True)
    return [received_s - sent_s for received_s, sent_s in pairs if window.holds(sent_s)]
