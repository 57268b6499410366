"""Protocols of the iteration time models."""

from collections.abc import Sequence
from typing import Protocol

from simulator.model import IterationOverhead, Layout
from simulator.replica import Batch


class StageTimes(Protocol):
    """Stage times of a batch, for one model on one layout."""

    def __call__(self, batch: Batch) -> Sequence[float]:
        """Return the seconds of each pipeline stage and of each send.

        float[2 * pp - 1]: first stage, send, second stage, ..., last stage. A single number without pipeline
        parallelism.
        """
        ...


class IterationTime(Protocol):
    """An iteration time model that is not yet bound to a layout."""

    def for_layout(self, layout: Layout, engine: IterationOverhead) -> StageTimes:
        """Return the stage times of one model on one layout.

        Raises:
            ValueError: A required value is unknown, or a file cannot be read.
        """
        ...
