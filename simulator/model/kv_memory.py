"""KV memory of a replica: KV blocks that fit its GPUs."""

import math
from dataclasses import dataclass

from simulator.model.layout import Layout
from simulator.model.number_formats import KV_DTYPES, require_dtype
from traces.shared.value_checks import integer

GIB = 1 << 30
LARGEST = 2**31


@dataclass(frozen=True)
class KVMemory:
    """KV memory of a replica.

    Attributes:
        block_size: Tokens per KV block.
        num_blocks: KV blocks per replica; None: as many as fit in GPU memory.
        watermark: Share of the KV blocks that an admission leaves free (vllm and sarathi).
        memory_utilization: Share of GPU memory that the engine uses.
        dtype: Format of the keys and values.
        prefix_caching: Whether the replica has a prefix cache; None: if the policy supports it (only vllm_v1 does).
    """

    block_size: int = 16
    num_blocks: int | None = None
    watermark: float = 0.01
    memory_utilization: float = 0.85
    dtype: str = "fp16"
    prefix_caching: bool | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        integer("block_size", self.block_size, 1, LARGEST)
        if self.num_blocks is not None:
            integer("num_blocks", self.num_blocks, 1, LARGEST)
        for name in ("watermark", "memory_utilization"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
                raise ValueError(f"{name} must be a number, got {value!r}")
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark must be at least 0 and below 1, got {self.watermark}")
        if not 0 < self.memory_utilization <= 1:
            raise ValueError(f"memory_utilization must be above 0 and at most 1, got {self.memory_utilization}")
        if self.prefix_caching is not None and not isinstance(self.prefix_caching, bool):
            raise ValueError(f"prefix_caching must be true, false or null, got {self.prefix_caching!r}")
        require_dtype(self.dtype, "dtype", KV_DTYPES)

    def blocks_for(self, layout: Layout, profiled_tokens: int) -> int:
        """Return the KV blocks of one replica.

        The stage with the least room decides. Room is the usable memory of a GPU minus its weights and the activations
        of the largest forward pass.

        Args:
            layout: The model on its GPUs.
            profiled_tokens: Tokens of the largest forward pass.

        Raises:
            ValueError: The layout does not fit; the message has the arithmetic.
        """
        if self.num_blocks is not None:
            return self.num_blocks
        model, device, parallel = layout.model, layout.device, layout.parallel
        usable = device.memory_gib * GIB * self.memory_utilization
        activations = layout.activation_bytes(profiled_tokens)
        blocks_per_stage = []
        for stage, num_layers in enumerate(layout.stage_layers):
            weights = layout.weight_bytes(stage)
            block_bytes = self.block_size * num_layers * layout.kv_bytes_per_token
            num_blocks = int((usable - weights - activations) // block_bytes)
            if num_blocks < 1:
                raise ValueError(
                    f"{model.name} with tp={parallel.tp} pp={parallel.pp} does not fit {device.name}: of "
                    f"{device.memory_gib:g} GiB x {self.memory_utilization:g} = {usable / GIB:.1f} GiB per GPU, "
                    f"weights take {weights / GIB:.1f} and activations of {profiled_tokens:,} tokens "
                    f"{activations / GIB:.1f} GiB, which leaves no room for a KV block"
                )
            blocks_per_stage.append(num_blocks)
        return min(blocks_per_stage)
