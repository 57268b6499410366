"""GPU memory that a serving engine takes besides weights and KV cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.model.layout import Layout
from simulator.model.number_formats import HALF_BYTES
from traces.shared.value_checks import each, integer, mapping, number

LARGEST = 1 << 20
LOGIT_BYTES = 4  # the sampler works in single precision


@dataclass(frozen=True)
class EngineMemory:
    """GPU memory that an engine finds in use when it starts.

    Attributes:
        non_torch_gib: Memory outside the engine's allocator that appears after its start, such as NCCL buffers, by
            tensor-parallel degree; a degree in between takes the next smaller one.
        logit_copies: Tensors of max_num_seqs x vocabulary in single precision that the sampler holds at once.
        hidden_copies: Tensors of max_num_batched_tokens x hidden size in half precision that are held beside them.
        sampler_gib: Fixed buffers of the sampler.
        graph_mib_per_layer: CUDA graphs, per layer of a stage, if the engine leaves room for them; 0: they take memory
            that the KV cache does not leave free.
    """

    non_torch_gib: Mapping[int, float] = field(default_factory=lambda: {1: 0.0})
    logit_copies: float = 0.0
    hidden_copies: float = 0.0
    sampler_gib: float = 0.0
    graph_mib_per_layer: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        mapping("non_torch_gib", self.non_torch_gib, "GiB by tensor-parallel degree", number, 0, LARGEST)
        for degree in self.non_torch_gib:
            integer("non_torch_gib: a tensor-parallel degree", degree, 1, LARGEST)
        if 1 not in self.non_torch_gib:
            raise ValueError(f"non_torch_gib must have an entry for one GPU, got {self.non_torch_gib!r}")
        each(number, self, ("logit_copies", "hidden_copies", "sampler_gib", "graph_mib_per_layer"), 0, LARGEST)

    def non_torch_bytes(self, layout: Layout) -> float:
        """Return the bytes outside the allocator on one GPU."""
        degree = max(degree for degree in self.non_torch_gib if degree <= layout.parallel.tp)
        return self.non_torch_gib[degree] * 2**30

    def activation_bytes(self, layout: Layout, max_batch_tokens: int, max_num_seqs: int) -> float:
        """Return the peak bytes of the profiling run on one GPU.

        The peak is in the forward pass, or in the sampler after it.
        """
        model = layout.model
        logits = self.logit_copies * max_num_seqs * model.vocab_size * LOGIT_BYTES
        hidden = self.hidden_copies * max_batch_tokens * model.hidden_size * HALF_BYTES
        sampler = logits + hidden + self.sampler_gib * 2**30
        return max(sampler, layout.activation_bytes(max_batch_tokens))

    def graph_bytes(self, layout: Layout, stage: int) -> float:
        """Return the bytes left free for CUDA graphs of a stage."""
        return self.graph_mib_per_layer * 2**20 * layout.stage_layers[stage]
