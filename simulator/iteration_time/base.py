"""What every model of iteration time answers."""

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
