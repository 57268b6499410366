"""What every model of iteration time answers."""

from collections.abc import Sequence
from typing import Protocol

from simulator.batch import Batch
from simulator.hardware import Device
from simulator.model import Model
from simulator.parallelism import Parallelism

LONGEST_S = 1e6  # longer than any iteration


class StageTimes(Protocol):
    """Times of a batch for one model on one layout."""

    def __call__(self, batch: Batch) -> Sequence[float]:
        """Seconds that each pipeline stage is busy with the batch, first stage first."""
        ...


class IterationTime(Protocol):
    """A model of iteration time, before it knows model and layout."""

    def for_layout(self, model: Model, device: Device, parallel: Parallelism) -> StageTimes:
        """Prepare the prediction for one model on one layout."""
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
