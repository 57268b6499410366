"""What a serving engine adds to kernels and messages: the time of its host, and how it computes attention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.model.device import Device

LONGEST_S = 1e6
MOST_DECODES = 1 << 16


@dataclass(frozen=True)
class HostTime:
    """Host time of an iteration: what the GPU waits for, and what it takes to launch the kernels.

    Attributes:
        base_s: Seconds of an iteration on one GPU.
        per_seq_s: Seconds per sequence in the batch on one GPU.
        multi_gpu_base_s: Seconds of an iteration on several GPUs, the engine's messages to its workers included.
        multi_gpu_per_seq_s: Seconds per sequence in the batch on several GPUs.
        launch_per_layer_s: Seconds to launch the kernels of one layer. Kernels run while the next are launched,
            so a stage takes at least so long for each of its layers. 0: launched at once.
        launch_graph_s: Seconds to launch a stage that was captured as a CUDA graph; it takes at least so long.
    """

    base_s: float = 0.0
    per_seq_s: float = 0.0
    multi_gpu_base_s: float = 0.0
    multi_gpu_per_seq_s: float = 0.0
    launch_per_layer_s: float = 0.0
    launch_graph_s: float = 0.0

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
class IterationOverhead:
    """A serving engine on the machines of one device.

    Attributes:
        host: Time of its host.
        grouped_decode: Whether decode attention reads keys and values once for all query heads that share them;
            else once for each query head.
        decode_graph_sizes: Batches of decodes that were captured as CUDA graphs, increasing. A batch without prefill
            is padded to the next of them.
    """

    host: HostTime = field(default_factory=HostTime)
    grouped_decode: bool = True
    decode_graph_sizes: Sequence[int] = ()


@dataclass(frozen=True)
class HostOverhead:
    """A serving engine as far as iteration time goes.

    Attributes:
        hosts: Host time by the name of the host (`Device.host`); None: the host takes no time.
        grouped_decode: Whether decode attention reads keys and values once for all query heads that share them;
            else once for each query head.
        decode_graph_sizes: Batches of decodes that were captured as CUDA graphs, increasing. A batch without prefill
            is padded to the next of them; one that is larger than all is launched kernel by kernel.
    """

    hosts: Mapping[str, HostTime] | None = None
    grouped_decode: bool = True
    decode_graph_sizes: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.grouped_decode, bool):
            raise ValueError(f"grouped_decode must be true or false, got {self.grouped_decode!r}")
        sizes = self.decode_graph_sizes
        if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not all(map(_is_size, sizes)):
            raise ValueError(f"decode_graph_sizes must be a list of integers from 1 to {MOST_DECODES}, got {sizes!r}")
        if sorted(set(sizes)) != list(sizes):
            raise ValueError(f"decode_graph_sizes must increase, got {list(sizes)}")
        object.__setattr__(self, "decode_graph_sizes", tuple(sizes))

    def on(self, device: Device) -> IterationOverhead:
        """Return the engine on the machines of a device.

        Raises:
            ValueError: The host of the device was not measured with this engine.
        """
        if self.hosts is None:
            return IterationOverhead(HostTime(), self.grouped_decode, self.decode_graph_sizes)
        if device.host not in self.hosts:
            raise ValueError(f"engine.hosts must have an entry for {device.host}, the host of device {device.name}")
        return IterationOverhead(self.hosts[device.host], self.grouped_decode, self.decode_graph_sizes)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_DECODES
