"""What every model of iteration time answers."""

from collections.abc import Sequence
from typing import Protocol

from simulator.model import IterationOverhead, Layout
from simulator.replica import Batch

LONGEST_S = 1e6  # longer than any iteration


class StageTimes(Protocol):
    """Times of a batch for one model on one layout."""

    def __call__(self, batch: Batch) -> Sequence[float]:
        """Return the seconds of each pipeline stage and, between two of them, of the message to the next.

        float[2 * pp - 1]: first stage, message, second stage, ..., last stage. Without a pipeline it is one
        number.
        """
        ...


class IterationTime(Protocol):
    """A model of iteration time, before it knows the layout."""

    def for_layout(self, layout: Layout, engine: IterationOverhead) -> StageTimes:
        """Prepare the prediction for one model on one layout.

        Raises:
            ValueError: Something that it needs is unknown or cannot be read.
        """
        ...


def require_seconds(owner: object, *names: str) -> None:
    """Check attributes that are times.

    Raises:
        ValueError: One of them is not a number from 0 to LONGEST_S.
    """
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LONGEST_S:
            raise ValueError(f"{name} must be a number from 0 to {LONGEST_S:g}, got {value!r}")
