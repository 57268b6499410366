"""Groups of layers that share a table of KV blocks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers whose KV blocks cover the same tokens of a sequence.

    Attributes:
        block_size: Tokens per KV block.
    """

    block_size: int

    def blocks_for(self, num_tokens: int) -> int:
        """Return the KV blocks of the first `num_tokens` tokens of a sequence."""
        return -(-num_tokens // self.block_size)
