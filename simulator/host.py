"""What a serving engine adds to kernels and messages: the time of its host, and how it computes attention."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.hardware import Device

LONGEST_S = 1e6


@dataclass(frozen=True)
class HostTime:
    """Host time of an iteration: what the GPU waits for, and what it takes to launch the kernels.

    Attributes:
        base_s: Seconds of an iteration on one GPU.
        per_seq_s: Seconds per sequence in the batch on one GPU.
        multi_gpu_base_s: Seconds of an iteration on several GPUs, the engine's messages to its workers included.
        multi_gpu_per_seq_s: Seconds per sequence in the batch on several GPUs.
        launch_per_layer_s: Seconds to launch the kernels of one layer. Kernels run while the next are launched,
            so a stage takes at least so long for each of its layers. 0: launched at once, as from CUDA graphs.
    """

    base_s: float = 0.0
    per_seq_s: float = 0.0
    multi_gpu_base_s: float = 0.0
    multi_gpu_per_seq_s: float = 0.0
    launch_per_layer_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LONGEST_S:
                raise ValueError(f"{name} must be a number from 0 to {LONGEST_S:g}, got {value!r}")

    def line(self, num_gpus: int) -> tuple[float, float]:
        """Seconds of an iteration, and seconds per sequence."""
        if num_gpus > 1:
            return self.multi_gpu_base_s, self.multi_gpu_per_seq_s
        return self.base_s, self.per_seq_s


@dataclass(frozen=True)
class EngineTime:
    """A serving engine on the machines of one device.

    Attributes:
        host: Time of its host.
        grouped_decode: Whether decode attention reads keys and values once for all query heads that share them;
            else once for each query head.
    """

    host: HostTime = field(default_factory=HostTime)
    grouped_decode: bool = True


@dataclass(frozen=True)
class ServingEngine:
    """A serving engine as far as iteration time goes.

    Attributes:
        hosts: Host time by the name of the host (`Device.host`); None: the host takes no time.
        grouped_decode: Whether decode attention reads keys and values once for all query heads that share them;
            else once for each query head.
    """

    hosts: Mapping[str, HostTime] | None = None
    grouped_decode: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.grouped_decode, bool):
            raise ValueError(f"grouped_decode must be true or false, got {self.grouped_decode!r}")

    def on(self, device: Device) -> EngineTime:
        """Return the engine on the machines of a device.

        Raises:
            ValueError: The host of the device was not measured with this engine.
        """
        if self.hosts is None:
            return EngineTime(HostTime(), self.grouped_decode)
        if device.host not in self.hosts:
            raise ValueError(f"engine.hosts must have an entry for {device.host}, the host of device {device.name}")
        return EngineTime(self.hosts[device.host], self.grouped_decode)
