"""The protocol of iteration time models, and what they return."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from simulator.iteration_time.provenance import Provenance
from simulator.model import EngineOverhead, Layout
from simulator.replica import Batch


@dataclass(frozen=True)
class OperatorTime:
    """One operator of a batch on one GPU of a stage.

    Attributes:
        name: Name of the operator.
        kind: "kernel", "network" or "host".
        seconds_per_layer: Seconds in one layer.
        layers: Layers of the stage; 1 for an operator outside the layers.
        flops_per_layer: FLOPs in one layer.
        bytes_per_layer: Bytes read from and written to memory in one layer.
        dtype: Number format of its multiplications, which sets the peak rate.
    """

    name: str
    kind: str
    seconds_per_layer: float
    layers: int
    flops_per_layer: float = 0.0
    bytes_per_layer: float = 0.0
    dtype: str = "bf16"


class StageTimes:
    """Stage times of batches, for one model on one layout.

    Attributes:
        provenance: Source and limits of the times; None: unknown.
    """

    def __init__(
        self, function: Callable[[Batch], Sequence[float]] | None = None, provenance: Provenance | None = None
    ) -> None:
        """Take the times from a function; a subclass has methods.

        Args:
            function: Returns what `of_batch` returns.
            provenance: Source and limits of the times; None: unknown.
        """
        self._function = function
        self.provenance = provenance

    def of_batch(self, batch: Batch) -> Sequence[float]:
        """Return the seconds of each stage and of each send.

        float[2 * pp - 1]: first stage, send, second stage, ..., last stage.
        """
        assert self._function is not None
        return self._function(batch)

    def of_single_stage(self, batch: Batch) -> float:
        """Return the seconds of the only pipeline stage."""
        return self.of_batch(batch)[0]

    @property
    def has_operators(self) -> bool:
        """Whether the times are composed of operators."""
        return False

    def operators(self, batch: Batch, stage: int) -> Iterator[OperatorTime]:
        """Yield the operators of a batch in a stage, if known."""
        return iter(())

    def __call__(self, batch: Batch) -> Sequence[float]:
        """Return the seconds of each stage and send, as `of_batch` does."""
        return self.of_batch(batch)


class IterationTime(Protocol):
    """An iteration time model that is not yet bound to a layout."""

    def for_layout(self, layout: Layout, engine: EngineOverhead) -> StageTimes:
        """Return the stage times of one model on one layout.

        Raises:
            ValueError: A required value is unknown, or a file cannot be read.
        """
        ...
