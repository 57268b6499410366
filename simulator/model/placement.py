"""Which GPUs a replica has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """The GPUs of one replica.

    Attributes:
        group: Number of the group of identical replicas that it belongs to.
        device: Name of its GPUs.
        node: Name of the machines that they are in; empty: unknown.
        tp: Tensor-parallel degree.
        pp: Pipeline stages.
        price_per_hour_usd: Price of those GPUs, US dollars per hour; None: unknown.
    """

    group: int = 0
    device: str = ""
    node: str = ""
    tp: int = 1
    pp: int = 1
    price_per_hour_usd: float | None = None

    @property
    def num_gpus(self) -> int:
        """GPUs that it takes."""
        return self.tp * self.pp
