"""GPUs: peak rates, memory and price. Sources are in configs/device."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.model.number_formats import HALF, WEIGHT_DTYPES
from traces.shared.value_checks import each, integer, mapping, positive, text

LARGEST_BATCH = 1 << 20


@dataclass(frozen=True)
class Attained:
    """Measured efficiency of kernels on a GPU.

    Attributes:
        compute: Share of the peak matrix rate in large matrix products.
        bandwidth: Share of the peak bandwidth in matrix products of few tokens.
        prefill_attention: Share of the peak matrix rate in prefill attention.
        decode_attention: Share of the peak bandwidth in decode attention.
        kernel_us: Time of the shortest kernels, microseconds.
        l2_gb_per_s: Rate at which decode attention reads keys and values from the L2 cache, 10^9 byte/s.
    """

    compute: float
    bandwidth: float
    prefill_attention: float
    decode_attention: float
    kernel_us: float
    l2_gb_per_s: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        each(positive, self, vars(self))


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        name: Name of the device, as in the configuration.
        peak_tflops: Dense half-precision matrix rate, 10^12 FLOP/s.
        memory_gib: HBM capacity, GiB.
        cuda_memory_gib: Memory that CUDA reports, GiB, of which engines take a share; None: memory_gib.
        bandwidth_gb_per_s: HBM bandwidth, 10^9 byte/s.
        attained: Measured efficiency of its kernels.
        host: Name of the measured host of its machines, see configs/engine.
        profiles: Names of the fitted kernel times that ship with the simulator, by generation of kernels.
        fp8_tflops: Dense FP8 matrix rate, 10^12 FLOP/s; None: no FP8 matrix units, so FP8 weights are computed in
            half precision.
        int8_tops: Dense INT8 matrix rate, 10^12 operations/s; None: as for FP8.
        fp4_tflops: Dense FP4 matrix rate, 10^12 FLOP/s; None: as for FP8.
        max_num_batched_tokens: Tokens of an iteration that `vllm serve` chooses on this GPU.
        max_num_seqs: Running requests that `vllm serve` chooses on this GPU.
        price_per_hour_usd: Rental price of one GPU, US dollars per hour; None: unknown.
    """

    name: str
    peak_tflops: float
    memory_gib: float
    bandwidth_gb_per_s: float
    attained: Attained
    host: str
    cuda_memory_gib: float | None = None
    profiles: Mapping[str, str] = field(default_factory=dict)
    fp8_tflops: float | None = None
    int8_tops: float | None = None
    fp4_tflops: float | None = None
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256
    price_per_hour_usd: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        text("name", self.name)
        each(positive, self, ("peak_tflops", "memory_gib", "bandwidth_gb_per_s"))
        optional = ("cuda_memory_gib", "fp8_tflops", "int8_tops", "fp4_tflops", "price_per_hour_usd")
        each(positive, self, optional, optional=True)
        each(integer, self, ("max_num_batched_tokens", "max_num_seqs"), 1, LARGEST_BATCH)
        mapping("profiles", self.profiles, "names of files by generation of kernels", text)

    @property
    def usable_memory_gib(self) -> float:
        """Memory of which an engine takes a share, GiB."""
        return self.memory_gib if self.cuda_memory_gib is None else self.cuda_memory_gib

    def computes_in(self, dtype: str) -> bool:
        """Return whether the GPU has matrix units for a format.

        The format is that of weights and activations. Weights in other formats are widened in registers and multiplied
        in half precision.
        """
        return dtype in HALF or self._quantised_tflops[dtype] is not None

    def tflops(self, dtype: str) -> float:
        """Return the dense matrix rate for weights of a format, 10^12 FLOP/s."""
        return self._quantised_tflops[dtype] or self.peak_tflops

    @property
    def _quantised_tflops(self) -> dict[str, float | None]:
        native = {"fp8": self.fp8_tflops, "fp8_block": self.fp8_tflops, "int8": self.int8_tops}
        return dict.fromkeys(WEIGHT_DTYPES) | native | {"nvfp4": self.fp4_tflops}
