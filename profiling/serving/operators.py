"""Operators of a decoder layer on tensors.

The harness measures the functions that the serving engine runs.
"""

from typing import Any

from profiling.device.environment import CPU

EPSILON = 1e-6
FP8_MAX = 448.0  # largest value of float8_e4m3fn
# Compute capability from which GPUs multiply fp8.
FP8_CAPABILITY = (8, 9)
# On a CPU, oneDNN generates code per number of rows, which takes as long as a prompt.
CPU_ROW_GRAIN = 64


class Operators:
    """Operators of a layer except attention, in torch.

    Norms, RoPE, activation and the sampler run in FlashInfer if given.

    Attributes:
        torch: The module.
        kernel_library: Names and versions of the kernel libraries.
    """

    def __init__(self, torch: Any, flashinfer: Any = None, row_grain: int = 1) -> None:
        """Store the modules.

        Args:
            torch: The module.
            flashinfer: The module; None: torch alone.
            row_grain: GEMMs of more rows are padded to a multiple of this number of rows.
        """
        self._row_grain = row_grain
        self.torch = torch
        self._functional = torch.nn.functional
        self._flashinfer = flashinfer
        self.kernel_library = f"torch {torch.__version__}"
        if flashinfer is not None:
            self.kernel_library += f", flashinfer {flashinfer.__version__}"

    def linear(self, x: Any, weight: Any) -> Any:
        """Multiply (tokens, k) by the transpose of (n, k): (tokens, n)."""
        rows, grain = x.shape[0], self._row_grain
        padding = -rows % grain if rows > grain else 0
        if not padding:
            return self._functional.linear(x, weight)
        return self._functional.linear(self._functional.pad(x, (0, 0, 0, padding)), weight)[:rows]

    def quantize(self, x: Any) -> tuple[Any, Any]:
        """Quantize to fp8 with one scale per tensor.

        Args:
            x: Half precision, any shape.

        Returns:
            The values, float8_e4m3fn of the same shape, and their scale, float32[].
        """
        torch = self.torch
        largest = torch.linalg.vector_norm(x, float("inf"), dtype=torch.float32)
        scale = largest.clamp(min=EPSILON).div(FP8_MAX)
        return (x / scale).to(torch.float8_e4m3fn), scale

    def linear_fp8(self, x: Any, weight: Any, weight_scale: Any) -> Any:
        """Quantize (tokens, k) and multiply by the transpose of (n, k).

        Args:
            x: (tokens, k), half precision.
            weight: float8_e4m3fn[n, k]; both widths are multiples of 16.
            weight_scale: float32[].

        Returns:
            (tokens, n), of the format of x.
        """
        values, scale = self.quantize(x)
        scales = {"scale_a": scale, "scale_b": weight_scale}
        return self.torch._scaled_mm(values, weight.t(), **scales, out_dtype=x.dtype, use_fast_accum=True)

    def embed(self, tokens: Any, table: Any) -> Any:
        """Look up token embeddings: int64[tokens] -> (tokens, hidden)."""
        return self._functional.embedding(tokens, table)

    def rms_norm(self, x: Any, weight: Any) -> Any:
        """Normalize (tokens, hidden)."""
        if self._flashinfer is not None:
            return self._flashinfer.norm.rmsnorm(x, weight, EPSILON)
        return self._functional.rms_norm(x, weight.shape, weight, EPSILON)

    def add_rms_norm(self, x: Any, residual: Any, weight: Any) -> tuple[Any, Any]:
        """Add the residual and normalize the sum.

        Args:
            x: (tokens, hidden); may be changed in place, as may `residual`.
            residual: (tokens, hidden).
            weight: (hidden).

        Returns:
            The normalized sum and the sum, (tokens, hidden) each.
        """
        if self._flashinfer is not None:
            self._flashinfer.norm.fused_add_rmsnorm(x, residual, weight, EPSILON)
            return x, residual
        total = self.torch.add(x, residual)
        return self.rms_norm(total, weight), total

    def rotation_table(self, num_positions: int, head_dim: int, device: str, base: float = 10000.0) -> Any:
        """Return cosines, then sines, of each position: float32[positions, head_dim].

        Source: Su et al., arXiv:2104.09864.
        """
        torch = self.torch
        exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
        angles = torch.outer(torch.arange(num_positions, device=device, dtype=torch.float32), base**-exponents)
        return torch.cat([angles.cos(), angles.sin()], dim=-1)

    def rotate(self, x: Any, num_q_heads: int, positions: Any, table: Any) -> tuple[Any, Any]:
        """Apply rotary embeddings to queries and keys, each head in halves.

        Args:
            x: (tokens, query and key heads, head_dim); may be changed in place.
            num_q_heads: Number of query heads, the first in x.
            positions: int64[tokens].
            table: See `rotation_table`.

        Returns:
            Queries (tokens, q_heads, head_dim) and keys (tokens, kv_heads, head_dim).
        """
        if self._flashinfer is not None:
            q, k = x[:, :num_q_heads], x[:, num_q_heads:]
            rotate = self._flashinfer.rope.apply_rope_with_cos_sin_cache_inplace
            rotate(positions, q.flatten(1), k.flatten(1), x.shape[-1], table)
            return q, k
        cosine, sine = table[positions].to(x.dtype)[:, None].chunk(2, dim=-1)
        first, second = x.chunk(2, dim=-1)
        rotated = self.torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
        return rotated[:, :num_q_heads], rotated[:, num_q_heads:]

    def write_cache(self, cache: tuple[Any, Any], keys: Any, values: Any, slots: Any) -> None:
        """Write keys and values of new tokens to the KV cache.

        Args:
            cache: Keys and values, (blocks, block_size, kv_heads, head_dim) each.
            keys: (tokens, kv_heads, head_dim).
            values: (tokens, kv_heads, head_dim).
            slots: int64[tokens], block x block_size + offset.
        """
        for cached, new in zip(cache, (keys, values), strict=True):
            cached.view(-1, *cached.shape[2:]).index_copy_(0, slots, new)

    def activate(self, x: Any, gated: bool) -> Any:
        """Apply SiLU if `gated`, otherwise GELU.

        SiLU takes (tokens, 2 ffn), whose first half is the gate; GELU takes (tokens, ffn).
        """
        if not gated:
            return self._functional.gelu(x, approximate="tanh")
        if self._flashinfer is not None:
            return self._flashinfer.activation.silu_and_mul(x)
        gate, up = x.chunk(2, dim=-1)
        return self._functional.silu(gate) * up

    def add(self, x: Any, residual: Any) -> Any:
        """Add two (tokens, hidden)."""
        return self.torch.add(x, residual)

    def sample(self, logits: Any) -> Any:
        """Sample greedily: the largest logit of each sequence, int64[sequences]."""
        return self.torch.argmax(logits, dim=-1)

    def sample_top_k_top_p(self, logits: Any, top_k: Any, top_p: Any) -> Any:
        """Sample among the largest logits of each sequence.

        Args:
            logits: (sequences, vocabulary).
            top_k: int32[sequences], most tokens to sample among.
            top_p: float32[sequences], probability that they reach together.

        Returns:
            One token of each sequence, integers[sequences].
        """
        if self._flashinfer is not None:
            # A seed of our own: the generator cannot be read while a CUDA graph is captured.
            probabilities = self.torch.softmax(logits, dim=-1, dtype=self.torch.float32)
            sample = self._flashinfer.sampling.top_k_top_p_sampling_from_probs
            return sample(probabilities, top_k, top_p, deterministic=True, seed=0, offset=0)
        ordered, tokens = logits.float().sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        rank = self.torch.arange(logits.shape[-1], device=logits.device)
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities.masked_fill_((rank >= top_k[:, None]) | (before > top_p[:, None]), 0)
        # The largest ratio to exponential noise is a sample.
        noise = self.torch.empty_like(probabilities).exponential_()
        return tokens.gather(-1, (probabilities / noise).argmax(dim=-1, keepdim=True)).flatten()


def multiplies_fp8(torch: Any, device: str) -> bool:
    """Whether a device, "cuda" or "cpu", computes matrix products in fp8."""
    if device != CPU:
        return bool(torch.cuda.get_device_capability() >= FP8_CAPABILITY)
    operators, tokens = Operators(torch), torch.ones(16, 16, dtype=torch.bfloat16)
    try:
        operators.linear_fp8(tokens, *operators.quantize(tokens))
    except (AttributeError, RuntimeError):
        return False
    return True


def operators_on(device: str, torch: Any, flashinfer: Any) -> Operators:
    """Return the operators of a device, "cuda" or "cpu"."""
    return Operators(torch, flashinfer, CPU_ROW_GRAIN if device == CPU else 1)
