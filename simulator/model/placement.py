"""The GPUs of a replica."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """The GPUs of one replica.

    Attributes:
        group: Index of its group of identical replicas.
        device: Name of its GPUs.
        node: Name of the machines that hold them; empty: unknown.
        tp: Tensor-parallel degree.
        pp: Pipeline-parallel degree.
        price_per_hour_usd: Price of all its GPUs, US dollars per hour; None: unknown.
    """

    group: int = 0
    device: str = ""
    node: str = ""
    tp: int = 1
    pp: int = 1
    price_per_hour_usd: float | None = None

    @property
    def num_gpus(self) -> int:
        """GPUs of the replica."""
        return self.tp * self.pp
