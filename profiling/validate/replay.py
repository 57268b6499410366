"""Replays a recording.

Given its iteration times, the simulator must decide the recorded batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from profiling.serving.loop import Iteration
from profiling.serving.recording import Recording
from simulator.cluster import Deployment
from simulator.config import load_config
from simulator.iteration_time import StageTimes
from simulator.model import EngineOverhead, Layout
from simulator.replica import Batch
from simulator.results import Result
from simulator.simulation import simulate

# Nanosecond rounding, accumulated over the iterations of a recording.
TOLERANCE_S = 1e-6


class ReplayError(ValueError):
    """The simulator does not reproduce a recording; the message is one line."""


@dataclass
class RecordedTimes:
    """The iteration times of a recording, checked against the recorded batches.

    Attributes:
        iterations: The recorded iterations.
        num_used: Iterations replayed so far.
    """

    iterations: Sequence[Iteration]
    num_used: int = field(default=0)

    def for_layout(self, layout: Layout, engine: EngineOverhead) -> StageTimes:
        """See `IterationTime`."""
        return StageTimes(self.of_batch)

    def of_batch(self, batch: Batch) -> Sequence[float]:
        """Return the recorded time of the next iteration.

        Raises:
            ReplayError: The batch is not the recorded one.
        """
        if self.num_used == len(self.iterations):
            raise ReplayError(f"the simulator continues after the last of {self.num_used} recorded iterations")
        recorded = self.iterations[self.num_used]
        decided, expected = contents_of(batch), (recorded.decodes, list(recorded.chunks))
        if decided != expected:
            raise ReplayError(
                f"iteration {self.num_used} from {recorded.start_s:.6f} s: recorded {_format(*expected)}, "
                f"the simulator decides {_format(*decided)}"
            )
        self.num_used += 1
        return (recorded.end_s - recorded.start_s,)


def contents_of(batch: Batch) -> tuple[tuple[int, int], list[tuple[int, int, int]]]:
    """Return decodes (number, context tokens) and chunks (request, tokens, context tokens)."""
    chunks = [(chunk.request, chunk.num_tokens, chunk.context_tokens) for chunk in batch.chunks]
    return (batch.num_decodes, batch.decode_context_tokens), chunks


def batch_of(iteration: Iteration) -> Batch:
    """Return the batch of a recorded iteration."""
    batch = Batch()
    batch.num_decodes, batch.decode_context_tokens = iteration.decodes
    for chunk in iteration.chunks:
        batch.add_chunk(*chunk)
    return batch


def deployment_of(recording: Recording) -> Deployment:
    """Return the deployment in a recording's configuration."""
    deployment = load_config(*recording.overrides)["deployment"]
    assert isinstance(deployment, Deployment)
    return deployment


def replay(recording: Recording) -> Result:
    """Replay a recording; return it as a result of the simulator.

    Raises:
        ReplayError: A batch, a first token time or a completion time differs from the recording.
    """
    times = RecordedTimes(recording.served.iterations)
    result = simulate(recording.trace, replace(deployment_of(recording), iteration_time=times))
    if times.num_used < len(times.iterations):
        raise ReplayError(f"the simulator ends after {times.num_used} of {len(times.iterations)} recorded iterations")
    served = recording.served
    for name, recorded in (("first_token_s", served.first_token_s), ("completed_s", served.completed_s)):
        differs = ~np.isclose(result.column(name), recorded, rtol=0, atol=TOLERANCE_S, equal_nan=True)
        if differs.any():
            request = int(np.flatnonzero(differs)[0])
            raise ReplayError(
                f"request {request}: {name} is {result.column(name)[request]:.6f}, recorded {recorded[request]:.6f}"
            )
    return result


def _format(decodes: tuple[int, int], chunks: Sequence[tuple[int, int, int]]) -> str:
    parts = [f"{tokens} tokens of request {request} after {before}" for request, tokens, before in chunks]
    return ", ".join([f"{decodes[0]} decodes with {decodes[1]:,} tokens in the KV cache", *parts])
