"""KV memory of a replica: KV blocks that fit its GPUs."""

from dataclasses import dataclass

from simulator.model.engine_memory import EngineMemory
from simulator.model.layout import Layout
from simulator.model.number_formats import KV_DTYPES
from traces.shared.value_checks import choice, flag, integer, number

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
        integer("num_blocks", self.num_blocks, 1, LARGEST, optional=True)
        number("watermark", self.watermark, 0, 1, excluding="high")
        number("memory_utilization", self.memory_utilization, 0, 1, excluding="low")
        flag("prefix_caching", self.prefix_caching, optional=True)
        choice("dtype", self.dtype, KV_DTYPES)

    def blocks_for(
        self, layout: Layout, max_batch_tokens: int, max_num_seqs: int | None = None, engine: EngineMemory | None = None
    ) -> int:
        """Return the KV blocks of one replica.

        The stage with the least room decides. Room is the usable memory of a GPU minus its weights, the activations of
        the largest forward pass, and what else the engine takes.

        Args:
            layout: The model on its GPUs.
            max_batch_tokens: Tokens of the largest forward pass.
            max_num_seqs: Running requests; None: no limit is known.
            engine: Memory of the engine; None: the activations of a layer alone.

        Raises:
            ValueError: The layout does not fit; the message has the arithmetic.
        """
        if self.num_blocks is not None:
            return self.num_blocks
        stages = range(layout.parallel.pp)
        rooms = [self._room(layout, stage, max_batch_tokens, max_num_seqs, engine) for stage in stages]
        blocks = [int(room // self._block_bytes(layout, stage)) for stage, room in enumerate(rooms)]
        if engine is not None:
            self._require_longest_sequence(layout, min(blocks))
        return min(blocks)

    def _block_bytes(self, layout: Layout, stage: int) -> float:
        return self.block_size * layout.stage_layers[stage] * layout.kv_bytes_per_token

    def _room(
        self, layout: Layout, stage: int, max_batch_tokens: int, max_num_seqs: int | None, engine: EngineMemory | None
    ) -> float:
        """Return the bytes left for KV blocks on one GPU."""
        device = layout.device
        memory_gib = device.memory_gib if engine is None else device.usable_memory_gib
        usable = memory_gib * GIB * self.memory_utilization
        parts = {"weights": layout.weight_bytes(stage)}
        activations = f"activations of {max_batch_tokens:,} tokens"
        if engine is None:
            parts[activations] = layout.activation_bytes(max_batch_tokens)
        else:
            num_seqs = max_batch_tokens if max_num_seqs is None else max_num_seqs
            parts[activations] = engine.activation_bytes(layout, max_batch_tokens, num_seqs)
            parts["CUDA graphs"] = engine.graph_bytes(layout, stage)
            parts["the engine's other buffers"] = engine.non_torch_bytes(layout)
        room = usable - sum(parts.values())
        if room < self._block_bytes(layout, stage):
            taken = ", ".join(f"{name} take {size / GIB:.1f}" for name, size in parts.items())
            parallel = layout.parallel
            raise ValueError(
                f"{layout.model.name} with tp={parallel.tp} pp={parallel.pp} does not fit {device.name}: of "
                f"{memory_gib:g} GiB x {self.memory_utilization:g} = {usable / GIB:.1f} GiB per GPU, {taken} GiB, "
                "which leaves no room for a KV block"
            )
        return room

    def _require_longest_sequence(self, layout: Layout, num_blocks: int) -> None:
        """Check that one sequence of max_model_len fits, as engines do."""
        model, held = layout.model, num_blocks * self.block_size
        if model.max_model_len > held:
            raise ValueError(
                f"one sequence of model.max_model_len={model.max_model_len:,} tokens does not fit the KV cache of "
                f"{held:,} tokens ({num_blocks:,} blocks) on {layout.parallel.num_gpus} x {layout.device.name}: "
                "the engine would not start; lower model.max_model_len or take more GPUs"
            )
