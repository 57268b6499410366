"""How a replica is spread over GPUs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Parallelism:
    """Degrees of parallelism of one replica.

    Attributes:
        tp: Tensor-parallel degree: GPUs that share each layer.
        pp: Pipeline-parallel degree: stages of consecutive layers.
    """

    tp: int = 1
    pp: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("tp", "pp"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")

    @property
    def num_gpus(self) -> int:
        """GPUs of one replica."""
        return self.tp * self.pp
