"""What every model of iteration time answers."""

import math
from collections.abc import Sequence
from typing import Protocol

from simulator.batch import Batch
from simulator.hardware import Device
from simulator.model import Model
from simulator.parallelism import Parallelism


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
        ValueError: One of them is not a finite number of at least 0.
    """
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
