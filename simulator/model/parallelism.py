"""Tensor and pipeline parallelism of a replica."""

from collections.abc import Sequence
from dataclasses import dataclass

from traces.shared.value_checks import each, flag, integer, sequence


@dataclass(frozen=True)
class Parallelism:
    """Degrees of parallelism of one replica.

    Attributes:
        tp: Tensor-parallel degree: GPUs that share each layer.
        pp: Pipeline-parallel degree: stages of consecutive layers.
        stage_layers: Layers of each stage, first stage first; None: split evenly, with any remainder in the first
            stages.
        overlap_sends: Whether a stage computes its next batch while it sends the previous one.
        sliced_sends: Whether each GPU of a stage sends one slice and the next stage gathers the slices, as in vLLM;
            else each GPU sends everything to its counterpart, as in Sarathi-Serve.
    """

    tp: int = 1
    pp: int = 1
    stage_layers: Sequence[int] | None = None
    overlap_sends: bool = False
    sliced_sends: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        each(integer, self, ("tp", "pp"), 1)
        allowed = f"a list of pp={self.pp} integers of at least 1"
        sequence("stage_layers", self.stage_layers, allowed, integer, 1, least=self.pp, most=self.pp, optional=True)
        each(flag, self, ("overlap_sends", "sliced_sends"))

    @property
    def num_gpus(self) -> int:
        """GPUs of one replica."""
        return self.tp * self.pp
