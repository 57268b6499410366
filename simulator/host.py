"""Time of the host in an iteration of a serving engine."""

from collections.abc import Mapping
from dataclasses import dataclass

from simulator.hardware import Device

LONGEST_S = 1e6


@dataclass(frozen=True)
class HostTime:
    """Host time of an iteration that the GPU waits for: a straight line in the number of sequences.

    Attributes:
        base_s: Seconds of an iteration on one GPU.
        per_seq_s: Seconds per sequence in the batch on one GPU.
        multi_gpu_base_s: Seconds of an iteration on several GPUs, the engine's messages to its workers included.
        multi_gpu_per_seq_s: Seconds per sequence in the batch on several GPUs.
    """

    base_s: float = 0.0
    per_seq_s: float = 0.0
    multi_gpu_base_s: float = 0.0
    multi_gpu_per_seq_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("base_s", "per_seq_s", "multi_gpu_base_s", "multi_gpu_per_seq_s"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LONGEST_S:
                raise ValueError(f"{name} must be a number from 0 to {LONGEST_S:g}, got {value!r}")

    def line(self, num_gpus: int) -> tuple[float, float]:
        """Seconds of an iteration, and seconds per sequence."""
        if num_gpus > 1:
            return self.multi_gpu_base_s, self.multi_gpu_per_seq_s
        return self.base_s, self.per_seq_s


@dataclass(frozen=True)
class ServingEngine:
    """A serving engine as far as the time of its host goes.

    Attributes:
        hosts: Host time by the name of the host (`Device.host`); None: the host takes no time.
    """

    hosts: Mapping[str, HostTime] | None = None

    def host_time(self, device: Device) -> HostTime:
        """Host time on the machines of a device.

        Raises:
            ValueError: The host of the device was not measured with this engine.
        """
        if self.hosts is None:
            return HostTime()
        if device.host not in self.hosts:
            raise ValueError(f"engine.hosts must have an entry for {device.host}, the host of device {device.name}")
        return self.hosts[device.host]
