"""Transformer architectures: the numbers that decide compute, memory traffic and KV cache."""

from dataclasses import dataclass

from simulator.parallelism import Parallelism

BYTES_PER_VALUE = 2  # fp16 and bf16


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer; published numbers, with their sources in configs/model.

    Attributes:
        name: Name of the model, as in the configuration.
        num_layers: Transformer layers.
        hidden_size: Width of the residual stream.
        num_q_heads: Query heads.
        num_kv_heads: Key and value heads.
        head_dim: Width of a head.
        ffn_size: Inner width of the MLP.
        gated_mlp: Whether the MLP has a gate projection beside the up projection (SwiGLU).
        vocab_size: Tokens in the vocabulary.
        parallel_attention: Whether attention and MLP read the same input, so that they share one all-reduce.
        tied_embedding: Whether input embedding and LM head are the same matrix.
        max_model_len: Longest sequence that the engine admits, tokens: a prompt and, after a preemption,
            its output so far. The output to come plays no role, as in the real engines. It is a setting of
            the engine and not limited by the model's position embeddings.
    """

    name: str
    num_layers: int
    hidden_size: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    gated_mlp: bool
    vocab_size: int
    parallel_attention: bool = False
    tied_embedding: bool = False
    max_model_len: int = 16384

    def __post_init__(self) -> None:
        """Check the ranges."""
        sizes = ("num_layers", "hidden_size", "num_q_heads", "num_kv_heads", "head_dim", "ffn_size", "vocab_size")
        for name in (*sizes, "max_model_len"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if self.num_q_heads % self.num_kv_heads:
            raise ValueError(
                f"num_q_heads must be a multiple of num_kv_heads={self.num_kv_heads}, got {self.num_q_heads}"
            )

    @property
    def attention_parameters(self) -> int:
        """Weights of the QKV and output projections of one layer."""
        return self.hidden_size * self.head_dim * 2 * (self.num_q_heads + self.num_kv_heads)

    @property
    def mlp_parameters(self) -> int:
        """Weights of the MLP of one layer."""
        return self.hidden_size * self.ffn_size * (3 if self.gated_mlp else 2)

    @property
    def embedding_parameters(self) -> int:
        """Weights of the input embedding, and as many of the LM head."""
        return self.vocab_size * self.hidden_size

    @property
    def num_parameters(self) -> int:
        """Weights of all matrices. Norms and biases, well under 0.1 %, are left out."""
        embeddings = self.embedding_parameters * (1 if self.tied_embedding else 2)
        return self.num_layers * (self.attention_parameters + self.mlp_parameters) + embeddings

    def kv_heads_per_gpu(self, tp: int) -> int:
        """Key and value heads on one GPU; each GPU has at least one, replicated if there are fewer heads."""
        return max(1, self.num_kv_heads // tp)

    def kv_bytes_per_token(self, tp: int) -> int:
        """KV-cache bytes of one token, one layer and one GPU."""
        return 2 * self.kv_heads_per_gpu(tp) * self.head_dim * BYTES_PER_VALUE


def stage_layers(model: Model, parallel: Parallelism) -> list[int]:
    """Layers of each pipeline stage, as even as they can be; the first stages take one more.

    Raises:
        ValueError: The model cannot be spread like this.
    """
    if model.num_layers < parallel.pp:
        raise ValueError(f"parallel.pp={parallel.pp}: {model.name} has {model.num_layers} layers, fewer than stages")
    if model.num_q_heads % parallel.tp:
        raise ValueError(f"parallel.tp={parallel.tp} must divide the {model.num_q_heads} query heads of {model.name}")
    if model.num_kv_heads % parallel.tp and parallel.tp % model.num_kv_heads:
        raise ValueError(
            f"parallel.tp={parallel.tp} must divide the {model.num_kv_heads} key-value heads of {model.name} "
            "or be a multiple of them"
        )
    layers, rest = divmod(model.num_layers, parallel.pp)
    return [layers + (stage < rest) for stage in range(parallel.pp)]
