"""Accelerators and the links between them: numbers with units; their sources are in configs/device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Amount = TypeVar("Amount", float, NDArray[np.float64])


def _require_positive(owner: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 1e-6 <= value <= 1e9:
            raise ValueError(f"{name} must be a number from 1e-6 to 1e9, got {value!r}")


@dataclass(frozen=True)
class Link:
    """What joins a group of GPUs.

    Attributes:
        num_gpus: Most GPUs of the group.
        bandwidth_gb_per_s: Bandwidth of a collective or message, 10^9 byte/s and GPU.
        latency_us: Time of a message of no length, microseconds.
    """

    num_gpus: int
    bandwidth_gb_per_s: float
    latency_us: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_positive(self, ("num_gpus", "bandwidth_gb_per_s", "latency_us"))

    def all_reduce_time(self, num_bytes: Amount, num_gpus: int) -> Amount:
        """Seconds of a ring all-reduce of `num_bytes` on each of `num_gpus` GPUs."""
        moved = 2 * (num_gpus - 1) / num_gpus * num_bytes
        return self.latency_us * 1e-6 + moved / (self.bandwidth_gb_per_s * 1e9)

    def send_time(self, num_bytes: Amount) -> Amount:
        """Seconds of a message of `num_bytes` from one GPU to another."""
        return self.latency_us * 1e-6 + num_bytes / (self.bandwidth_gb_per_s * 1e9)


@dataclass(frozen=True)
class Attained:
    """What kernels reach on a GPU, measured.

    Attributes:
        compute: Share of the peak matrix rate in large matrix products.
        bandwidth: Share of the peak bandwidth in matrix products of few tokens.
        prefill_attention: Share of the peak matrix rate in prefill attention.
        decode_attention: Share of the peak bandwidth in decode attention.
        kernel_us: Time of the shortest kernels, microseconds.
    """

    compute: float
    bandwidth: float
    prefill_attention: float
    decode_attention: float
    kernel_us: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_positive(self, ("compute", "bandwidth", "prefill_attention", "decode_attention", "kernel_us"))


@dataclass(frozen=True)
class Device:
    """One GPU, and what joins it to others.

    Attributes:
        name: Name of the device, as in the configuration.
        peak_tflops: Dense half-precision matrix rate, 10^12 FLOP/s.
        memory_gib: HBM size, GiB.
        bandwidth_gb_per_s: HBM bandwidth, 10^9 byte/s.
        attained: What kernels reach of the peaks.
        links: What joins GPUs, from the smallest group to the largest. The last one joins any number.
        host: Name of the measured host that its machines have, see configs/engine.
        profile: Name of the fitted kernel times that are shipped for it; None: there are none.
    """

    name: str
    peak_tflops: float
    memory_gib: float
    bandwidth_gb_per_s: float
    attained: Attained
    links: Sequence[Link]
    host: str
    profile: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_positive(self, ("peak_tflops", "memory_gib", "bandwidth_gb_per_s"))
        links = self.links
        if not isinstance(links, Sequence) or not links or not all(isinstance(link, Link) for link in links):
            raise ValueError(f"links must be a list of at least one Link, got {links!r}")

    def link(self, num_gpus: int) -> Link:
        """Slowest link within a group of so many GPUs."""
        return next((link for link in self.links if link.num_gpus >= num_gpus), self.links[-1])
