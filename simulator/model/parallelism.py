"""Tensor and pipeline parallelism of a replica."""

from collections.abc import Sequence
from dataclasses import dataclass

from traces.shared.value_checks import flag


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
        for name in ("tp", "pp"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        layers = self.stage_layers
        if layers is not None and not (
            isinstance(layers, Sequence)
            and len(layers) == self.pp
            and all(isinstance(count, int) and not isinstance(count, bool) and count >= 1 for count in layers)
        ):
            raise ValueError(
                f"stage_layers must be null or a list of pp={self.pp} integers of at least 1, got {layers!r}"
            )
        for name in ("overlap_sends", "sliced_sends"):
            flag(name, getattr(self, name))

    @property
    def num_gpus(self) -> int:
        """GPUs of one replica."""
        return self.tp * self.pp
