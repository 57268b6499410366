"""A decoder with random weights, computed layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiling.serving.attention import PagedAttention
from profiling.serving.operators import Operators
from simulator.model import Model

# Standard deviation of the random weights: activations keep their scale through the layers.
WEIGHT_SCALE = 0.02


@dataclass(frozen=True)
class ForwardInputs:
    """Inputs of a forward pass, on the device.

    The new tokens of all sequences are concatenated.

    Attributes:
        tokens: int64[num_tokens].
        positions: int64[num_tokens], position of each token in its sequence.
        slots: int64[num_tokens], KV cache slot of each token.
        last: int64[num_sequences], index of the last new token of each sequence.
    """

    tokens: Any
    positions: Any
    slots: Any
    last: Any


@dataclass(frozen=True)
class _Layer:
    input_norm: Any
    qkv_proj: Any
    o_proj: Any
    post_attention_norm: Any
    gate_up_proj: Any
    down_proj: Any


def supports(model: Model) -> bool:
    """Whether the decoder computes this architecture."""
    return model.num_experts == 1 and model.dtype == "bf16" and not model.parallel_attention


class Decoder:
    """A decoder-only transformer on one device, with its paged KV cache."""

    def __init__(self, model: Model, operators: Operators, device: str, num_blocks: int, block_size: int) -> None:
        """Draw weights and reserve the KV cache.

        Args:
            model: The architecture; dense, in bf16.
            operators: Operators of a layer.
            device: "cuda" or "cpu".
            num_blocks: KV blocks; one more is reserved for the writes of padding in captured batches.
            block_size: Tokens per KV block.

        Raises:
            ValueError: The decoder does not support this architecture.
        """
        if not supports(model):
            raise ValueError(
                f"{model.name} cannot be recorded: the serving engine supports dense decoders in bf16, with attention "
                "and MLP in sequence"
            )
        self.model = model
        self.operators = operators
        self.device = device
        torch = operators.torch
        self._generator = torch.Generator(device=device).manual_seed(0)
        q_width = model.num_q_heads * model.head_dim
        kv_width = model.num_kv_heads * model.head_dim
        gates = 2 if model.gated_mlp else 1
        self._embedding = self._weight(model.vocab_size, model.hidden_size)
        self._lm_head = self._embedding if model.tied_embedding else self._weight(model.vocab_size, model.hidden_size)
        self._final_norm = self._ones(model.hidden_size)
        self._rotation = operators.rotation_table(model.max_model_len, model.head_dim, device)
        self._layers: Sequence[_Layer] = [
            _Layer(
                self._ones(model.hidden_size),
                self._weight(q_width + 2 * kv_width, model.hidden_size),
                self._weight(model.hidden_size, q_width),
                self._ones(model.hidden_size),
                self._weight(gates * model.ffn_size, model.hidden_size),
                self._weight(model.hidden_size, model.ffn_size),
            )
            for _ in range(model.num_layers)
        ]
        shape = num_blocks + 1, block_size, model.num_kv_heads, model.head_dim
        self._caches = [(self._cache(*shape), self._cache(*shape)) for _ in range(model.num_layers)]

    def forward(self, inputs: ForwardInputs, attention: PagedAttention) -> Any:
        """Compute an iteration that `attention` is planned for.

        Returns:
            The next tokens, int64[num_sequences].
        """
        return self.operators.sample(self.logits(inputs, attention))

    def logits(self, inputs: ForwardInputs, attention: PagedAttention) -> Any:
        """Compute an iteration; return the logits.

        Returns:
            (sequences, vocabulary), of the last token of each sequence.
        """
        operators = self.operators
        x = operators.embed(inputs.tokens, self._embedding)
        for layer, cache in zip(self._layers, self._caches, strict=True):
            x = self._attend(x, layer, cache, inputs, attention)
            x = self._mlp(x, layer)
        last = operators.rms_norm(x[inputs.last], self._final_norm)
        return operators.linear(last, self._lm_head)

    def _attend(
        self, x: Any, layer: _Layer, cache: tuple[Any, Any], inputs: ForwardInputs, attention: PagedAttention
    ) -> Any:
        operators, model = self.operators, self.model
        qkv = operators.linear(operators.rms_norm(x, layer.input_norm), layer.qkv_proj)
        heads = qkv.unflatten(1, (-1, model.head_dim))
        rotated = model.num_q_heads + model.num_kv_heads
        q, k = operators.rotate(heads[:, :rotated], model.num_q_heads, inputs.positions, self._rotation)
        operators.write_cache(cache, k, heads[:, rotated:], inputs.slots)
        attended = attention.run(q, cache)
        return operators.add(operators.linear(attended.flatten(1), layer.o_proj), x)

    def _mlp(self, x: Any, layer: _Layer) -> Any:
        operators = self.operators
        inner = operators.linear(operators.rms_norm(x, layer.post_attention_norm), layer.gate_up_proj)
        return operators.add(operators.linear(operators.activate(inner, self.model.gated_mlp), layer.down_proj), x)

    def _weight(self, *shape: int) -> Any:
        torch = self.operators.torch
        drawn = torch.randn(*shape, device=self.device, dtype=torch.bfloat16, generator=self._generator)
        return drawn.mul_(WEIGHT_SCALE)

    def _ones(self, width: int) -> Any:
        torch = self.operators.torch
        return torch.ones(width, device=self.device, dtype=torch.bfloat16)

    def _cache(self, *shape: int) -> Any:
        """Return random keys or values: zeros would switch fewer transistors."""
        torch = self.operators.torch
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16, generator=self._generator)
