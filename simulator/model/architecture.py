"""Transformer architectures: the sizes that determine compute, memory traffic and KV cache."""

from dataclasses import dataclass

from simulator.model.number_formats import WEIGHT_DTYPES
from traces.shared.value_checks import choice, each, flag, integer, text

LARGEST = 10**9  # of any of its sizes


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer. Sources of the published numbers are in configs/model.

    Attributes:
        name: Name of the model, as in the configuration.
        num_layers: Transformer layers.
        hidden_size: Width of the residual stream.
        num_q_heads: Query heads.
        num_kv_heads: Key-value heads.
        head_dim: Width of a head.
        ffn_size: Intermediate size of the MLP.
        gated_mlp: Whether the MLP has a gate projection beside the up projection (SwiGLU).
        vocab_size: Tokens in the vocabulary.
        parallel_attention: Whether attention and MLP read the same input and so share one all-reduce.
        qk_norm: Whether queries and keys are normalised before attention.
        tied_embedding: Whether input embedding and LM head share one matrix.
        num_experts: Experts per layer; 1: a dense MLP.
        experts_per_token: Experts per layer that compute each token.
        dtype: Format of the layer weights. The embedding, the LM head and all activations are in half precision.
        weight_only: Whether 8-bit weights are multiplied in half precision (GPTQ) and not in 8 bits (FP8 and W8A8
            checkpoints). int4 weights always are.
        max_model_len: Longest sequence that the engine admits, tokens: the prompt and, after a preemption, the
            output so far. The remaining output does not count, as in the real engines. This is a setting of the
            engine and not limited by the model's position embeddings.
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
    qk_norm: bool = False
    tied_embedding: bool = False
    num_experts: int = 1
    experts_per_token: int = 1
    dtype: str = "bf16"
    weight_only: bool = False
    max_model_len: int = 16384

    def __post_init__(self) -> None:
        """Check the ranges."""
        sizes = ("num_layers", "hidden_size", "num_q_heads", "num_kv_heads", "head_dim", "ffn_size", "vocab_size")
        each(integer, self, (*sizes, "num_experts", "experts_per_token", "max_model_len"), 1, LARGEST)
        if self.num_q_heads % self.num_kv_heads:
            raise ValueError(
                f"num_q_heads must be a multiple of num_kv_heads={self.num_kv_heads}, got {self.num_q_heads}"
            )
        if self.experts_per_token > self.num_experts:
            raise ValueError(
                f"experts_per_token must be at most num_experts={self.num_experts}, got {self.experts_per_token}"
            )
        choice("dtype", self.dtype, WEIGHT_DTYPES)
        text("name", self.name)
        each(flag, self, ("gated_mlp", "parallel_attention", "qk_norm", "tied_embedding", "weight_only"))

    @property
    def attention_parameters(self) -> int:
        """Weights of the QKV and output projections of one layer."""
        return self.hidden_size * self.head_dim * 2 * (self.num_q_heads + self.num_kv_heads)

    @property
    def mlp_parameters(self) -> int:
        """Weights of the MLP of one layer.

        A mixture of experts counts all its experts and the router.
        """
        mlp = self.hidden_size * self.ffn_size * (3 if self.gated_mlp else 2)
        return mlp if self.num_experts == 1 else self.num_experts * (mlp + self.hidden_size)

    @property
    def embedding_parameters(self) -> int:
        """Weights of the input embedding; the LM head has the same number."""
        return self.vocab_size * self.hidden_size

    @property
    def num_parameters(self) -> int:
        """Weights of all matrices.

        Norms and biases, well under 0.1 %, are left out.
        """
        embeddings = self.embedding_parameters * (1 if self.tied_embedding else 2)
        return self.num_layers * (self.attention_parameters + self.mlp_parameters) + embeddings

    def kv_heads_per_gpu(self, tp: int) -> int:
        """Return the key-value heads on one GPU.

        There is at least one: heads are replicated if there are fewer than GPUs.
        """
        return max(1, self.num_kv_heads // tp)

    def require_divisible(self, tp: int) -> None:
        """Check that `tp` GPUs can share a layer.

        Raises:
            ValueError: The heads cannot be divided among them.
        """
        if self.num_q_heads % tp:
            raise ValueError(f"parallel.tp={tp} must divide the {self.num_q_heads} query heads of {self.name}")
        if self.num_kv_heads % tp and tp % self.num_kv_heads:
            raise ValueError(
                f"parallel.tp={tp} must divide the {self.num_kv_heads} key-value heads of {self.name} "
                "or be a multiple of them"
            )
