"""How many KV blocks a replica has."""

import math
from dataclasses import dataclass

from simulator.hardware import Device
from simulator.model import BYTES_PER_VALUE, Model, stage_layers
from simulator.parallelism import Parallelism

GIB = 1 << 30
LARGEST = 2**31


@dataclass(frozen=True)
class KVCache:
    """KV memory of a replica.

    Attributes:
        block_size: Tokens per KV block.
        num_blocks: KV blocks per replica; None: as many as fit the device's memory.
        watermark: Share of the blocks that an admission leaves free (vllm and sarathi).
        memory_utilization: Share of the device's memory that the engine uses.
    """

    block_size: int = 16
    num_blocks: int | None = None
    watermark: float = 0.01
    memory_utilization: float = 0.85

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("block_size", "num_blocks"):
            value = getattr(self, name)
            if name == "num_blocks" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
                raise ValueError(f"{name} must be an integer from 1 to {LARGEST}, got {value!r}")
        for name in ("watermark", "memory_utilization"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
                raise ValueError(f"{name} must be a number, got {value!r}")
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark must be at least 0 and below 1, got {self.watermark}")
        if not 0 < self.memory_utilization <= 1:
            raise ValueError(f"memory_utilization must be above 0 and at most 1, got {self.memory_utilization}")

    def blocks_for(self, model: Model, device: Device, parallel: Parallelism) -> int:
        """KV blocks of one replica. The stage with the least room decides.

        What the engine may use of a GPU, less its weights and the activations of the largest forward
        pass (one of max_model_len tokens, as in the engine's memory profiling).

        Raises:
            ValueError: The layout does not fit, with the arithmetic.
        """
        layers = stage_layers(model, parallel)  # refuses layouts that cannot be, whatever the memory
        if self.num_blocks is not None:
            return self.num_blocks
        usable = device.memory_gib * GIB * self.memory_utilization
        activations = activation_bytes(model, parallel.tp)
        rooms = []
        for stage, num_layers in enumerate(layers):
            weights = weight_bytes(model, parallel, stage)
            block = self.block_size * num_layers * model.kv_bytes_per_token(parallel.tp)
            room = int((usable - weights - activations) // block)
            if room < 1:
                raise ValueError(
                    f"{model.name} with tp={parallel.tp} pp={parallel.pp} does not fit {device.name}: of "
                    f"{device.memory_gib:g} GiB x {self.memory_utilization:g} = {usable / GIB:.1f} GiB per GPU, "
                    f"weights take {weights / GIB:.1f} and activations {activations / GIB:.1f} GiB, which leaves "
                    f"no room for a KV block"
                )
            rooms.append(room)
        return min(rooms)


def weight_bytes(model: Model, parallel: Parallelism, stage: int) -> float:
    """Weight bytes of one GPU of a stage: its layers, and the embedding or LM head on the ends."""
    layers = stage_layers(model, parallel)
    # Key and value projections are replicated where there are fewer heads than GPUs.
    attention = (
        model.hidden_size * model.head_dim * 2 * (model.num_q_heads / parallel.tp + model.kv_heads_per_gpu(parallel.tp))
    )
    parameters = layers[stage] * (attention + model.mlp_parameters / parallel.tp)
    ends = (stage == 0) + (stage == parallel.pp - 1)
    if model.tied_embedding and parallel.pp == 1:
        ends = 1
    return (parameters + ends * model.embedding_parameters / parallel.tp) * BYTES_PER_VALUE


def activation_bytes(model: Model, tp: int) -> float:
    """Activation bytes of one GPU in a forward pass of max_model_len tokens.

    The widest point of a layer is its MLP: the residual stream, the layer's input and output, and the
    up (and gate) projection with the activation beside it.
    """
    widths = 3 * model.hidden_size + (3 if model.gated_mlp else 2) * model.ffn_size / tp
    return model.max_model_len * widths * BYTES_PER_VALUE
