"""Host overhead, attention kernels and CUDA graphs of a serving engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.model.device import Device
from traces.shared.value_checks import flag, number

LONGEST_S = 1e6
MOST_DECODES = 1 << 16


@dataclass(frozen=True)
class HostTime:
    """Host time of an iteration.

    The GPU waits for the host during the times per iteration and per sequence. Kernel launch times only matter where
    kernels are shorter than their launches.

    Attributes:
        base_s: Seconds per iteration on one GPU.
        per_seq_s: Seconds per sequence in the batch on one GPU.
        multi_gpu_base_s: Seconds per iteration on several GPUs, including the engine's messages to its workers.
        multi_gpu_per_seq_s: Seconds per sequence in the batch on several GPUs.
        launch_per_layer_s: Seconds to launch the kernels of one layer. Kernels run while the next are launched, so
            this bounds the time of each layer of a stage from below. 0: launches take no time.
        launch_graph_s: Seconds to launch a stage that was captured as a CUDA graph; bounds its time from below.
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
            number(name, value, 0, LONGEST_S)

    def line(self, num_gpus: int) -> tuple[float, float]:
        """Return the seconds per iteration and the seconds per sequence."""
        if num_gpus > 1:
            return self.multi_gpu_base_s, self.multi_gpu_per_seq_s
        return self.base_s, self.per_seq_s


@dataclass(frozen=True)
class IterationOverhead:
    """Host overhead of a serving engine on the machines of one device.

    Attributes:
        host: Host time of an iteration.
        grouped_decode: Whether decode attention reads keys and values once for all query heads that share them;
            else once per query head.
        decode_graph_sizes: Numbers of decodes whose batches were captured as CUDA graphs, increasing. A batch without
            prefill is padded to the next size.
    """

    host: HostTime = field(default_factory=HostTime)
    grouped_decode: bool = True
    decode_graph_sizes: Sequence[int] = ()


@dataclass(frozen=True)
class HostOverhead:
    """Host overhead of a serving engine on all measured hosts.

    Attributes:
        hosts: Host time by the name of the host (`Device.host`); None: the host takes no time.
        grouped_decode: Whether decode attention reads keys and values once for all query heads that share them;
            else once per query head.
        decode_graph_sizes: Numbers of decodes whose batches were captured as CUDA graphs, increasing. A batch without
            prefill is padded to the next size; a batch beyond the largest size is launched kernel by kernel.
    """

    hosts: Mapping[str, HostTime] | None = None
    grouped_decode: bool = True
    decode_graph_sizes: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        flag("grouped_decode", self.grouped_decode)
        sizes = self.decode_graph_sizes
        if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not all(map(_is_size, sizes)):
            raise ValueError(f"decode_graph_sizes must be a list of integers from 1 to {MOST_DECODES}, got {sizes!r}")
        if sorted(set(sizes)) != list(sizes):
            raise ValueError(f"decode_graph_sizes must increase, got {list(sizes)}")
        object.__setattr__(self, "decode_graph_sizes", tuple(sizes))

    def on(self, device: Device) -> IterationOverhead:
        """Return the overhead on the machines of a device.

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
