"""Overheads of a serving engine: host, launches, front end and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.model.device import Device
from simulator.model.engine_memory import EngineMemory
from simulator.model.front_end import FrontEndTime
from traces.shared.value_checks import (
    choice,
    each,
    flag,
    increasing,
    instance,
    integer,
    mapping,
    number,
    sequence,
    text,
)

LONGEST_S = 1e6
MOST_DECODES = 1 << 16
GREEDY = "greedy"
ANY_HOST = "default"  # entry for devices without one of their own


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
        launch_pieces_per_layer_s: Seconds to launch one layer of a graph that is cut at attention; bounds its time
            from below.
    """

    base_s: float = 0.0
    per_seq_s: float = 0.0
    multi_gpu_base_s: float = 0.0
    multi_gpu_per_seq_s: float = 0.0
    launch_per_layer_s: float = 0.0
    launch_graph_s: float = 0.0
    launch_pieces_per_layer_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        each(number, self, vars(self), 0, LONGEST_S)

    def line(self, num_gpus: int) -> tuple[float, float]:
        """Return the seconds per iteration and the seconds per sequence."""
        if num_gpus > 1:
            return self.multi_gpu_base_s, self.multi_gpu_per_seq_s
        return self.base_s, self.per_seq_s


@dataclass(frozen=True)
class SamplerTime:
    """GPU time of sampling, in addition to the greedy choice.

    Attributes:
        base_s: Seconds per iteration.
        per_logit_s: Seconds per sequence and token of the vocabulary.
    """

    base_s: float = 0.0
    per_logit_s: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        each(number, self, vars(self), 0, LONGEST_S)


@dataclass(frozen=True)
class EngineOverhead:
    """Overhead of a serving engine on all measured hosts.

    Attributes:
        hosts: Host time by the name of the host (`Device.host`), or "default"; None: the host takes no time.
        grouped_decode: Whether decode attention reads keys and values once for all query heads that share them;
            else once per query head.
        decode_graph_sizes: Sizes that were captured as CUDA graphs, increasing. A batch of decodes is padded to the
            next size; a batch beyond the largest size is launched kernel by kernel.
        mixed_graphs: Whether batches with prefill run as graphs of these sizes too, cut at attention.
        kernels: Generation of the kernels and collectives, a key of `Device.profiles`; None: any.
        fused_operators: Whether the engine adds the residual within the norms, and writes the KV cache within
            attention.
        custom_all_reduce: Whether the engine has an all-reduce of its own, which takes the place of NCCL for the
            message sizes for which it was measured.
        sampling: How tokens are chosen: "greedy", or a key of `samplers`.
        samplers: Time of other choices in addition to the greedy one.
        front_end: Time of the front end; None: it takes no time.
        memory_utilization: Share of the GPU memory that the engine takes unless the configuration says otherwise.
        async_scheduling: Whether the engine schedules a batch while the previous one runs, unless the configuration
            says otherwise.
        memory: GPU memory besides weights and KV cache; None: the activations of a layer alone.
    """

    hosts: Mapping[str, HostTime] | None = None
    grouped_decode: bool = True
    decode_graph_sizes: Sequence[int] = ()
    mixed_graphs: bool = False
    kernels: str | None = None
    fused_operators: bool = False
    custom_all_reduce: bool = False
    sampling: str = GREEDY
    samplers: Mapping[str, SamplerTime] = field(default_factory=dict)
    front_end: FrontEndTime | None = None
    memory_utilization: float = 0.85
    async_scheduling: bool = False
    memory: EngineMemory | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        each(flag, self, ("grouped_decode", "mixed_graphs", "fused_operators", "custom_all_reduce", "async_scheduling"))
        allowed = f"a list of integers from 1 to {MOST_DECODES}"
        sequence("decode_graph_sizes", self.decode_graph_sizes, allowed, integer, 1, MOST_DECODES)
        increasing("decode_graph_sizes", self.decode_graph_sizes)
        object.__setattr__(self, "decode_graph_sizes", tuple(self.decode_graph_sizes))
        text("kernels", self.kernels, "the name of a generation", optional=True)
        mapping(
            "hosts", self.hosts, "named entries", instance, HostTime, "the times of a HostTime", least=1, optional=True
        )
        mapping("samplers", self.samplers, "named entries", instance, SamplerTime, "the times of a SamplerTime")
        instance("memory", self.memory, EngineMemory, "the sizes of an EngineMemory", optional=True)
        choice("sampling", self.sampling, (GREEDY, *self.samplers))
        instance("front_end", self.front_end, FrontEndTime, "the times of a FrontEndTime", optional=True)
        number("memory_utilization", self.memory_utilization, 0, 1)

    @property
    def sampler(self) -> SamplerTime:
        """Time of the sampler beyond the greedy choice."""
        return self.samplers.get(self.sampling, SamplerTime())

    def host_time(self, device: Device) -> HostTime:
        """Return the host time on the machines of a device.

        Raises:
            ValueError: The host of the device was not measured with this engine.
        """
        if self.hosts is None:
            return HostTime()
        host = self.hosts.get(device.host, self.hosts.get(ANY_HOST))
        if host is None:
            raise ValueError(
                f"engine.hosts must have an entry for {device.host}, the host of device {device.name}, or for "
                f"{ANY_HOST}; this engine was measured on {', '.join(self.hosts)}, and engine=vllm_v1 has times for any"
            )
        return host
